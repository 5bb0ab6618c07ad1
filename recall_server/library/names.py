"""The meaning of a name over all loaded bundles: a label, a group of labels, or an alias."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from recall_server.core.io.labels import composed, folded
from recall_server.errors import AmbiguousLabel, InvalidRequest, UnknownLabel
from recall_server.library.aliases import Aliases
from recall_server.library.folder import LoadedBundle
from recall_server.library.precedence import Space, by_precedence

LONGEST_NAME = 400  # characters of `bundle:label`; no bundle has longer ones, and errors repeat the name


@final
@dataclass(frozen=True, eq=False)
class LabelReference:
    """A label of a bundle. `others` are the bundles that know its name, too."""

    loaded: LoadedBundle
    label: str
    others: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        return f"{self.loaded.name}:{self.label}"


@final
@dataclass(frozen=True)
class Preference:
    """How a name that several bundles know is decided: in that space, if any; refused if `strict`."""

    space: Space | None = None
    strict: bool = False


DEFAULT_PREFERENCE = Preference()


@final
@dataclass(frozen=True, eq=False)
class Named:
    """What `name` means in one bundle: one label, or the labels of a group."""

    name: str
    loaded: LoadedBundle
    labels: tuple[str, ...]

    @property
    def qualified(self) -> str:
        return f"{self.loaded.name}:{self.name}"


class _Table:
    """Names of one kind, in composed Unicode. An exact match is preferred to one that differs in case."""

    def __init__(self, entries: Iterator[Named]) -> None:
        self._exact: dict[str, list[Named]] = {}
        self._folded: dict[str, list[Named]] = {}
        for each in entries:
            self._exact.setdefault(composed(each.name), []).append(each)
            self._folded.setdefault(folded(each.name), []).append(each)

    def find(self, name: str, bundle: str | None) -> list[Named]:
        for known in (self._exact.get(composed(name), []), self._folded.get(folded(name), [])):
            found = [each for each in known if bundle in (None, each.loaded.name)]
            if found:
                return found
        return []

    def folded(self, bundle: str | None) -> dict[str, str]:
        """Case-folded names, each with its spelling in the first bundle that has it."""
        return {
            name: entries[0].name
            for name, entries in self._folded.items()
            if any(bundle in (None, each.loaded.name) for each in entries)
        }


@final
class Names:
    """All names of these bundles: labels take precedence over groups, and groups over aliases."""

    def __init__(self, bundles: Sequence[LoadedBundle], aliases: Aliases) -> None:
        known = [loaded for loaded in bundles if loaded.bundle.manifest.queries == "labels"]
        self._labels = _Table(Named(label, loaded, (label,)) for loaded in known for label in loaded.bundle.labels)
        self._groups = _Table(
            Named(group, loaded, tuple(labels))
            for loaded in known
            for group, labels in loaded.bundle.manifest.groups.items()
        )
        self._aliases: Mapping[str, tuple[str, ...]] = {folded(name): each for name, each in aliases.items()}
        self._spelling = {folded(name): name for name in aliases}

    def spaces(self, name: str, bundle: str | None) -> set[Space]:
        """The spaces of the bundles that know `name` as a label or a group."""
        for table in (self._labels, self._groups):
            if found := table.find(name, bundle):
                return {each.loaded.bundle.manifest.space for each in found}
        return set()

    def find(
        self, text: str, name: str, bundle: str | None, parameter: str, prefer: Preference = DEFAULT_PREFERENCE
    ) -> list[LabelReference]:
        """The labels that `name` stands for in `bundle`, or in any. `text` is the name as the caller wrote it.

        Raises UnknownLabel, AmbiguousLabel, and InvalidRequest for an alias whose labels are not loaded.
        """
        found = self._find(text, name, bundle, parameter, prefer)
        if found:
            return found
        if folded(name) not in self._aliases:
            raise UnknownLabel(text, self._nearest(name, bundle), parameter=parameter)
        meanings = self._aliases[folded(name)]
        return [each for meaning in meanings for each in self._of_meaning(text, meaning, bundle, parameter, prefer)]

    def _of_meaning(
        self, alias: str, meaning: str, bundle: str | None, parameter: str, prefer: Preference
    ) -> list[LabelReference]:
        """The labels of one meaning of an alias, in `bundle` if one is given."""
        prefix, _, name = meaning.rpartition(":")
        if bundle is not None and prefix not in ("", bundle):
            found = []
        else:
            try:
                found = self._find(meaning, name.strip(), prefix.strip() or bundle, parameter, prefer)
            except AmbiguousLabel as error:
                raise InvalidRequest(
                    f"{alias!r} is an alias of {meaning!r}, but {error}", parameter=parameter
                ) from error
        if not found:
            why = "which no loaded bundle knows" if bundle is None else f"which the bundle {bundle!r} does not know"
            raise InvalidRequest(f"{alias!r} is an alias of {meaning!r}, {why}", parameter=parameter)
        return found

    def _find(
        self, text: str, name: str, bundle: str | None, parameter: str, prefer: Preference
    ) -> list[LabelReference]:
        for table in (self._labels, self._groups):
            found = by_precedence(table.find(name, bundle), prefer.space)
            bundles = tuple(dict.fromkeys(each.loaded.name for each in found))
            if len(found) > len(bundles) or (prefer.strict and len(found) > 1):
                raise AmbiguousLabel(text, [each.qualified for each in found], parameter=parameter)
            if found:
                return [LabelReference(found[0].loaded, label, bundles[1:]) for label in found[0].labels]
        return []

    def _nearest(self, name: str, bundle: str | None) -> list[str]:
        """The most similar known names, best first, regardless of case."""
        aliases = self._spelling if bundle is None else {}
        known = aliases | self._groups.folded(bundle) | self._labels.folded(bundle)
        return [known[near] for near in difflib.get_close_matches(folded(name), list(known), n=3)]
