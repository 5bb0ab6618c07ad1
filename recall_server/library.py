"""The loaded bundles, and which label means what over all of them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, final

from recall_server.bundle import MemoryBundle
from recall_server.errors import (
    AmbiguousLabel,
    InvalidBundle,
    InvalidRequest,
    NotFound,
    RecallError,
    UnknownLabel,
    UnsupportedQuery,
)
from recall_server.query_encoder import QueryEncoder

LONGEST_NAME = 400  # characters of `bundle:label`: no bundle has longer ones, and errors repeat what was asked

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, eq=False)
class LoadedBundle:
    """A bundle and, where it has one, its query encoder."""

    bundle: MemoryBundle
    encoder: QueryEncoder | None = None

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def sha256(self) -> str:
        return self.bundle.sha256 or ""


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
@dataclass(frozen=True)
class Rejection:
    """A file that was not loaded, and why, in one sentence."""

    file: str
    reason: str


@final
@dataclass(frozen=True, eq=False)
class Library:
    """All bundles of a server by name, and the files that were rejected. Immutable: a reload makes another."""

    bundles: dict[str, LoadedBundle]
    rejected: tuple[Rejection, ...] = ()
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
    def load(cls, folder: Path, *, device: Literal["auto", "cpu", "cuda"] = "auto", encoder_threads: int = 1) -> Self:
        """Load `bundles/*.safetensors` with their encoders from `encoders/`, in order of file name.

        A file that cannot be loaded is logged and listed in `rejected`; the others are served all the same.
        """
        bundles: dict[str, LoadedBundle] = {}
        rejected: list[Rejection] = []
        for path in sorted((folder / "bundles").glob("*.safetensors")):
            try:
                loaded = _load(path, folder / "encoders", device, encoder_threads)
                if loaded.name in bundles:
                    raise InvalidBundle(f"{path.name}: another file holds a bundle named {loaded.name!r} already")
            except RecallError as error:
                logger.error("bundle rejected: %s", error)
                rejected.append(Rejection(path.name, str(error)))
            else:
                bundles[loaded.name] = loaded
                logger.info("bundle loaded: %s, sha256 %s", path.name, loaded.sha256)
        return cls(bundles=dict(sorted(bundles.items())), rejected=tuple(rejected))

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


def _load(path: Path, encoders: Path, device: Literal["auto", "cpu", "cuda"], threads: int) -> LoadedBundle:
    bundle = MemoryBundle.load(path)
    reference = bundle.manifest.query_encoder
    if reference is None:
        return LoadedBundle(bundle)
    encoder = QueryEncoder(encoders / reference.file, reference.sha256, device=device, threads=threads)
    if encoder.query_size != bundle.memory.query_size or encoder.image_shape != bundle.manifest.image.shape:
        raise InvalidBundle(
            f"{path.name}: its query encoder turns {list(encoder.image_shape)} into {encoder.query_size} numbers, "
            f"but the memory has {list(bundle.manifest.image.shape)} and {bundle.memory.query_size}"
        )
    return LoadedBundle(bundle, encoder)
