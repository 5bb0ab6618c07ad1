"""The loaded bundles of a server, and the lookup of labels over all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import InvalidBundle, InvalidRequest, NotFound, NotReady, UnsupportedQuery
from recall_server.library.aliases import ALIASES_FILE, Aliases, read_aliases
from recall_server.library.described_encoders import described_encoder
from recall_server.library.folder import BundleFile, Device, LoadedBundle, LoadOptions, Rejection, read_folder
from recall_server.library.names import LONGEST_NAME, LabelReference, Names, Preference
from recall_server.library.precedence import Space, served_files, shared_space

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, eq=False)
class Library:
    """All bundles of a server by name, and the rejected files. Immutable: a reload makes another library.

    A file whose old content is still served is in `rejected` as well. `files` and `winners` are what a reload compares
    with.
    """

    bundles: dict[str, LoadedBundle]
    rejected: tuple[Rejection, ...] = ()
    files: Mapping[str, BundleFile] = field(default_factory=dict, repr=False)
    aliases: Aliases = field(default_factory=dict)
    winners: Mapping[str, str] = field(default_factory=dict, repr=False)  # the file of each bundle, by its name
    picture_encoder: QueryEncoder | None = None  # for pictures of classes where no bundle is in the features of one
    _names: Names = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", Names(list(self.bundles.values()), self.aliases))

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: Device = "auto",
        public_key: Path | None = None,
        previous: Library | None = None,
    ) -> Self:
        """Load `bundles/*.safetensors`, with their encoders from `encoders/`, in order of file name.

        A file that cannot be loaded, or that is not in `bundles.lock`, is logged and listed in `rejected`; the others
        are served. With `public_key`, the lock file must exist and be signed by that key. With `previous`, files that
        have not changed are not read again, and a file or a list of aliases that has become invalid leaves the previous
        one in place. Raises OSError if the folder exists but cannot be listed.
        """
        before = {} if previous is None else previous.files
        options = LoadOptions(device, public_key)
        files = read_folder(folder, before, options)
        bundles: dict[str, LoadedBundle] = {}
        rejected: list[Rejection] = []
        winners = served_files(files, {} if previous is None else previous.winners)
        for file, read in files.items():
            reason, loaded = read.reason, read.served
            if loaded is not None and winners[loaded.name] != file:
                reason = f"{file}: it holds a bundle named {loaded.name!r}, which is served from {winners[loaded.name]}"
                if previous is None or reason not in {each.reason for each in previous.rejected}:
                    logger.error("bundle rejected: %s", reason)
            elif loaded is not None:
                bundles[loaded.name] = loaded
            if reason:
                rejected.append(Rejection(file, reason))
        aliases: Aliases = {} if previous is None else previous.aliases
        try:
            aliases = read_aliases(folder)
        except InvalidBundle as error:
            logger.error("aliases rejected: %s", error)
            rejected.append(Rejection(ALIASES_FILE, str(error)))
        spare = None
        if not any(loaded.feature_encoder for loaded in bundles.values()):
            spare = described_encoder(folder, options)
        return cls(dict(sorted(bundles.items())), tuple(rejected), files, aliases, winners, spare)

    def get(self, name: str) -> LoadedBundle:
        """The bundle of this name. Raises NotFound, with the names that exist."""
        if name not in self.bundles:
            raise NotFound(f"no bundle is named {name!r}; loaded are {self._known(self.bundles)}")
        return self.bundles[name]

    def pick(self, name: str) -> LoadedBundle:
        """The bundle that a request names in its parameter `bundle`. Raises InvalidRequest."""
        try:
            return self.get(name)
        except NotFound as error:
            raise InvalidRequest(str(error), parameter="bundle") from error

    def only(self, name: str | None) -> LoadedBundle:
        """The bundle of this name or, without a name, the only one. Raises InvalidRequest if there are several."""
        if name is not None:
            return self.pick(name)
        if len(self.bundles) != 1:
            raise InvalidRequest(f"say which bundle: {self._known(self.bundles)}", parameter="bundle")
        return next(iter(self.bundles.values()))

    def image_addressable(self, name: str | None) -> tuple[LoadedBundle, QueryEncoder]:
        """The bundle that pictures are sent to, and its encoder: the one named, or the only one with an encoder."""
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

    def feature_encoder(self, sha256: str, size: int) -> QueryEncoder:
        """The loaded encoder with that digest, for pictures of that size. Raises NotReady if there is none."""
        own = [loaded.feature_encoder for loaded in self.bundles.values() if loaded.feature_encoder is not None]
        spare = [] if self.picture_encoder is None else [self.picture_encoder]
        for encoder in (*own, *(each.at_own_size for each in own), *spare):
            if (encoder.sha256, encoder.image_shape[1]) == (sha256, size):
                return encoder
        raise NotReady(
            f"the classifier needs the encoder with sha256 {sha256[:12]} for pictures of {size} pixels, "
            "which is not loaded any more; put its file, or a bundle that names it, back"
        )

    def label_addressed(self, name: str | None) -> LoadedBundle:
        """The bundle among whose labels pictures are classified: the one named, or the only one addressed by labels."""
        able = [loaded for loaded in self.bundles.values() if loaded.bundle.manifest.queries == "labels"]
        if not able:
            raise UnsupportedQuery("no loaded bundle is addressed by labels, so pictures cannot be taken for any")
        if name is None and len(able) > 1:
            names = self._known(loaded.name for loaded in able)
            raise InvalidRequest(f"several bundles know labels; say which: {names}", parameter="bundle")
        loaded = able[0] if name is None else self.pick(name)
        self._check_label_addressed(loaded)
        return loaded

    def resolve(
        self, names: Sequence[str], *, bundle: str | None = None, parameter: str = "labels", **choice: Any
    ) -> list[LabelReference]:
        """The labels that these names stand for.

        A name is looked up in `bundle`, in the bundle before its colon, or in all bundles. A group stands for its
        labels, and an alias for what the file of aliases says; a label reached in several ways is returned once. Case
        matters only where two names differ in nothing else. Of several bundles that know a name, `precedence.py`
        chooses one; `choice` are its `strict` and `space`. `parameter` is the parameter that errors name. Raises
        UnknownLabel, AmbiguousLabel for two labels of one bundle and for what `strict` refuses, and InvalidRequest for
        no names, for a label named twice and for a bundle that is not loaded.
        """
        each = self.resolve_each(names, bundle, parameter, **choice)
        return [reference for some in each for reference in some]

    def resolve_each(
        self,
        names: Sequence[str],
        bundle: str | None,
        parameter: str,
        *,
        strict: bool = False,
        space: Space | None = None,
    ) -> list[list[LabelReference]]:
        """Like `resolve`, with a list for each name. A label is listed only under the first name that stands for it.

        With `space`, names that are all known in it are taken from it.
        """
        if not names:
            raise InvalidRequest("one label or more is needed", parameter=parameter)
        prefer = Preference(self._space(names, space) if bundle is None else None, strict)
        seen: dict[str, bool] = {}  # by qualified label: whether a name stands for this label alone
        resolved = []
        for name in names:
            found = {each.qualified: each for each in self._resolve_one(name, bundle, parameter, prefer)}
            alone = len(found) == 1
            for qualified, each in found.items():
                if alone and seen.get(qualified):
                    raise InvalidRequest(f"the label {each.label!r} is named twice", parameter=parameter)
            resolved.append([each for qualified, each in found.items() if qualified not in seen])
            seen |= {qualified: alone or seen.get(qualified, False) for qualified in found}
        return resolved

    def _space(self, names: Sequence[str], wanted: Space | None) -> Space | None:
        """The space in which all these names are known, if there is one; names that nobody knows do not count."""
        split = [name.strip().rpartition(":") for name in names]
        known = [self._names.spaces(name.strip(), prefix or None) for prefix, _, name in split]
        spaces = [each for each in known if each]
        return wanted if wanted is not None and all(wanted in each for each in spaces) else shared_space(spaces)

    def _resolve_one(self, text: str, bundle: str | None, parameter: str, prefer: Preference) -> list[LabelReference]:
        prefix, colon, rest = text.strip().rpartition(":")
        wanted, name = (prefix, rest.strip()) if colon else (bundle, rest)
        if not name:
            raise InvalidRequest("a label is empty; separate labels by single commas", parameter=parameter)
        if len(text) > LONGEST_NAME:
            raise InvalidRequest(f"a label has more than {LONGEST_NAME} characters", parameter=parameter)
        if colon and bundle not in (None, prefix):
            raise InvalidRequest(f"the label {text!r} is not in the bundle {bundle!r}", parameter=parameter)
        if wanted is not None:
            self._check_label_addressed(self.pick(wanted))
        return self._names.find(text, name, wanted, parameter, prefer)

    def _check_label_addressed(self, loaded: LoadedBundle) -> None:
        if loaded.bundle.manifest.queries != "labels":
            raise UnsupportedQuery(
                f"the bundle {loaded.name!r} is addressed by pictures, not by labels; POST pictures instead",
                parameter="bundle",
            )

    @staticmethod
    def _known(names: Iterable[str]) -> str:
        return ", ".join(map(repr, names)) or "none"
