"""Which bundle answers: where several bundles know a name of a class, and where several files hold bundles of one name.

Of bundles that know the name of a class, the first rule that decides:

1. one space for the whole request: a space in which every name of the request is known; features before pixels;
2. features before pixels;
3. the higher stated accuracy, if all bundles have as many classes;
4. the newer bundle, and then the one whose name comes first.

A request that is `strict` refuses such names instead, and `bundle:label` always decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from recall_server.core.reports.stated_accuracy import stated_accuracy
from recall_server.library.folder import SUFFIX, BundleFile, LoadedBundle

Space = Literal["features", "pixels"]
SPACES: tuple[Space, ...] = ("features", "pixels")  # the preferred one first


class Candidate(Protocol):
    """A meaning of a name in one bundle."""

    @property
    def loaded(self) -> LoadedBundle: ...


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


def shared_space(spaces: Iterable[Collection[Space]]) -> Space | None:
    """The preferred space among those that every name has, for the spaces in which each name is known."""
    each = [set(known) for known in spaces]
    common = set.intersection(*each) if each else set()
    return next((space for space in SPACES if space in common), None)


def by_precedence(candidates: Sequence[AnyCandidate], space: Space | None) -> list[AnyCandidate]:
    """The candidates, the one to take first. `space` is that of the whole request, if it has one."""
    comparable = len({len(each.loaded.bundle.labels) for each in candidates}) == 1

    def rank(candidate: AnyCandidate) -> tuple[int, float]:
        manifest = candidate.loaded.bundle.manifest
        stated = stated_accuracy(manifest) if comparable else None
        return -1 if manifest.space == space else SPACES.index(manifest.space), -(stated.mean if stated else 0.0)

    by_name = sorted(candidates, key=lambda each: each.loaded.name)
    newest_first = sorted(by_name, key=lambda each: each.loaded.bundle.manifest.provenance.date, reverse=True)
    return sorted(newest_first, key=rank)


def served_files(files: Mapping[str, BundleFile], before: Mapping[str, str]) -> dict[str, str]:
    """The file that is served for each name of a bundle.

    Of several files it is the one that is named after the bundle, or else the one that was served `before`, or else the
    first by name. So a backup copy beside a bundle never displaces it.
    """
    claims: dict[str, list[str]] = {}
    for file, read in files.items():
        if read.served is not None:
            claims.setdefault(read.served.name, []).append(file)
    return {
        name: min(claimed, key=lambda file: (file != name + SUFFIX, before.get(name) != file, file))
        for name, claimed in claims.items()
    }
