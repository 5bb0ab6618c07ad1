"""The loaded bundles, and which label means what over all of them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, final

from recall_server.bundle_folder import BundleFile, Device, LoadedBundle, LoadOptions, Rejection, read_folder
from recall_server.errors import (
    AmbiguousLabel,
    InvalidRequest,
    NotFound,
    UnknownLabel,
    UnsupportedQuery,
)
from recall_server.query_encoder import QueryEncoder

__all__ = ["LabelReference", "Library", "LoadedBundle", "Rejection"]

LONGEST_NAME = 400  # characters of `bundle:label`: no bundle has longer ones, and errors repeat what was asked

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, eq=False)
class LabelReference:
    """One label of one bundle."""

    loaded: LoadedBundle
    label: str

    @property
    def qualified(self) -> str:
        return f"{self.loaded.name}:{self.label}"


@final
@dataclass(frozen=True, eq=False)
class Library:
    """All bundles of a server by name, and the files that were rejected. Immutable: a reload makes another.

    A file is in `rejected` also where what it held before is still served; `files` is what a reload compares with.
    """

    bundles: dict[str, LoadedBundle]
    rejected: tuple[Rejection, ...] = ()
    files: Mapping[str, BundleFile] = field(default_factory=dict, repr=False)
    _labels: dict[str, list[LabelReference]] = field(init=False, repr=False)
    _folded: dict[str, list[LabelReference]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_name: dict[str, list[LabelReference]] = {}
        by_folded_name: dict[str, list[LabelReference]] = {}
        for loaded in self.bundles.values():
            if loaded.bundle.manifest.queries != "labels":
                continue
            for label in loaded.bundle.labels:
                reference = LabelReference(loaded, label)
                by_name.setdefault(label, []).append(reference)
                by_folded_name.setdefault(label.casefold(), []).append(reference)
        object.__setattr__(self, "_labels", by_name)
        object.__setattr__(self, "_folded", by_folded_name)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: Device = "auto",
        encoder_threads: int = 1,
        public_key: Path | None = None,
        previous: Library | None = None,
    ) -> Self:
        """Load `bundles/*.safetensors` with their encoders from `encoders/`, in order of file name.

        A file that cannot be loaded, or that `bundles.lock` does not vouch for, is logged and listed in `rejected`;
        the others are served all the same. With `public_key` the lock must be there, and signed by that key. With
        `previous`, files that have not changed since then are not read again, and a file that has become bad leaves
        in place what was served from it. Raises OSError where the folder is there but cannot be listed.
        """
        before = {} if previous is None else previous.files
        files = read_folder(folder, before, LoadOptions(device, encoder_threads, public_key))
        bundles: dict[str, LoadedBundle] = {}
        rejected: list[Rejection] = []
        for file, read in files.items():
            reason, loaded = read.reason, read.serves
            if loaded is not None and loaded.name in bundles:
                reason = f"{file}: another file holds a bundle named {loaded.name!r} already"
                logger.error("bundle rejected: %s", reason)
            elif loaded is not None:
                bundles[loaded.name] = loaded
            if reason:
                rejected.append(Rejection(file, reason))
        return cls(bundles=dict(sorted(bundles.items())), rejected=tuple(rejected), files=files)

    def get(self, name: str) -> LoadedBundle:
        """The bundle of that name; raises NotFound with the names that exist."""
        if name not in self.bundles:
            raise NotFound(f"no bundle is named {name!r}; loaded are {self._known(self.bundles)}")
        return self.bundles[name]

    def pick(self, name: str) -> LoadedBundle:
        """`get` for a bundle that a parameter of a request names; raises InvalidRequest."""
        try:
            return self.get(name)
        except NotFound as error:
            raise InvalidRequest(str(error), parameter="bundle") from error

    def only(self, name: str | None) -> LoadedBundle:
        """The bundle named or, where none is, the only one loaded; raises InvalidRequest where there are several."""
        if name is not None:
            return self.pick(name)
        if len(self.bundles) != 1:
            raise InvalidRequest(f"say which bundle: {self._known(self.bundles)}", parameter="bundle")
        return next(iter(self.bundles.values()))

    def image_addressable(self, name: str | None) -> tuple[LoadedBundle, QueryEncoder]:
        """The bundle that pictures go to, and its encoder: the one named, or the only one that has an encoder."""
        able = [loaded for loaded in self.bundles.values() if loaded.encoder is not None]
        if not able:
            raise UnsupportedQuery("no loaded bundle can be addressed by pictures; send labels instead")
        names = self._known(loaded.name for loaded in able)
        if name is None and len(able) > 1:
            raise InvalidRequest(f"several bundles take pictures; say which: {names}", parameter="bundle")
        loaded = able[0] if name is None else self.pick(name)
        if loaded.encoder is None:
            raise UnsupportedQuery(
                f"the bundle {loaded.name!r} is addressed by labels, not by pictures; these take pictures: {names}",
                parameter="bundle",
            )
        return loaded, loaded.encoder

    def resolve(
        self, labels: Sequence[str], *, bundle: str | None = None, parameter: str = "labels"
    ) -> list[LabelReference]:
        """What each label means: in `bundle`, in the bundle before its colon, or in the only one that knows it.

        Upper and lower case are told apart only where they have to be. `parameter` is what errors blame. Raises
        UnknownLabel, AmbiguousLabel, and InvalidRequest for no labels, for the same one twice and for a bundle that is
        not loaded.
        """
        if not labels:
            raise InvalidRequest("one label or more is needed", parameter=parameter)
        references: dict[str, LabelReference] = {}
        for label in labels:
            reference = self._resolve_one(label, bundle, parameter)
            if reference.qualified in references:
                raise InvalidRequest(f"the label {reference.label!r} is named twice", parameter=parameter)
            references[reference.qualified] = reference
        return list(references.values())

    def _resolve_one(self, text: str, bundle: str | None, parameter: str) -> LabelReference:
        prefix, colon, rest = text.strip().rpartition(":")
        wanted, label = (prefix, rest.strip()) if colon else (bundle, rest)
        if not label:
            raise InvalidRequest("a label is empty; separate labels by single commas", parameter=parameter)
        if len(text) > LONGEST_NAME:
            raise InvalidRequest(f"a label has more than {LONGEST_NAME} characters", parameter=parameter)
        if colon and bundle not in (None, prefix):
            raise InvalidRequest(f"the label {text!r} is not of the bundle {bundle!r}", parameter=parameter)
        if wanted is not None:
            self._check_label_addressed(self.pick(wanted))
        for known in (self._labels.get(label, []), self._folded.get(label.casefold(), [])):
            candidates = [reference for reference in known if wanted in (None, reference.loaded.name)]
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                names = [reference.qualified for reference in candidates]
                raise AmbiguousLabel(text, names, parameter=parameter)
        raise UnknownLabel(text, self._nearest(label, wanted), parameter=parameter)

    def _check_label_addressed(self, loaded: LoadedBundle) -> None:
        if loaded.bundle.manifest.queries != "labels":
            raise UnsupportedQuery(
                f"the bundle {loaded.name!r} is addressed by pictures, not by labels; POST pictures instead",
                parameter="bundle",
            )

    def _nearest(self, label: str, bundle: str | None) -> list[str]:
        """Known labels that look alike, best first, whatever their case."""
        folded = {
            name: references[0].label
            for name, references in self._folded.items()
            if any(bundle in (None, reference.loaded.name) for reference in references)
        }
        return [folded[name] for name in difflib.get_close_matches(label.casefold(), list(folded), n=3)]

    @staticmethod
    def _known(names: Iterable[str]) -> str:
        return ", ".join(map(repr, names)) or "none"
