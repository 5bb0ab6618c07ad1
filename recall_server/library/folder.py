"""The folder of bundles on the disk -> which bundle is served from which file, and what was refused.

Reading is one thing and serving another: a file is read again only when it, or the encoder that it names, has changed;
and a file that is refused does not take away the bundle that was served from it before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.bundle.lock import LOCK_FILE, SIGNATURE_FILE, BundleLock
from recall_server.core.encoders.novelty import NoveltyScorer, novelty_path
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.encoders.weights import learned_layers
from recall_server.core.networks import Parameters
from recall_server.errors import InvalidBundle, RecallError
from recall_server.library.aliases import ALIASES_FILE

logger = logging.getLogger(__name__)

BUNDLES, ENCODERS, SUFFIX = "bundles", "encoders", ".safetensors"
Device = Literal["auto", "cpu", "cuda"]


@final
@dataclass(frozen=True, eq=False)
class LoadedBundle:
    """A bundle and, where it has them, its query encoder and what that makes of known pictures.

    `learned` are the encoder's layers, where the bundle's classifiers begin with them.
    """

    bundle: MemoryBundle
    encoder: QueryEncoder | None = None
    familiarity: NoveltyScorer | None = None
    pretrained: Parameters | None = None

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def sha256(self) -> str:
        return self.bundle.sha256 or ""


@final
@dataclass(frozen=True)
class Rejection:
    """A file that was not loaded, and why, in one sentence."""

    file: str
    reason: str


@final
@dataclass(frozen=True)
class FileStamp:
    """What changes when a file does. A replaced file has another inode, a rewritten one another time or size."""

    size: int
    modified: int  # nanoseconds
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileStamp | None:
        """None where there is no such file."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@final
@dataclass(frozen=True, eq=False)
class BundleFile:
    """One file as it was last read: the bundle that it holds or the reason why it holds none, and what is served."""

    stamp: FileStamp | None
    encoder: str | None  # the file in `encoders` that it names
    encoder_stamp: tuple[FileStamp | None, ...]  # of that file, and of what lies beside it
    parsed: LoadedBundle | None
    reason: str = ""
    served: LoadedBundle | None = None


@final
@dataclass(frozen=True)
class LoadOptions:
    """Where and on how many threads query encoders run, and who must have signed the lock file, if anybody."""

    device: Device = "auto"
    threads: int = 1
    public_key: Path | None = None


def scan(folder: Path) -> dict[str, FileStamp | None]:
    """The stamps of all files that a library depends on: what is compared to see whether anything has changed.

    A folder that is not there is an empty one. Raises OSError where a folder cannot be listed.
    """
    stamps = {f"{BUNDLES}/{path.name}": FileStamp.of(path) for path in bundle_paths(folder)}
    stamps |= {f"{ENCODERS}/{path.name}": FileStamp.of(path) for path in _listed(folder / ENCODERS)}
    return stamps | {name: FileStamp.of(folder / name) for name in (LOCK_FILE, SIGNATURE_FILE, ALIASES_FILE)}


def bundle_paths(folder: Path) -> list[Path]:
    """The files of an artifacts folder that should be bundles, in order of name; raises OSError."""
    return [path for path in _listed(folder / BUNDLES) if path.name.endswith(SUFFIX) and not path.name.startswith(".")]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_folder(folder: Path, previous: Mapping[str, BundleFile], options: LoadOptions) -> dict[str, BundleFile]:
    """Every file of `folder/bundles`, by its name: those that are as `previous` saw them are not opened again.

    What a file held before goes on being served where the new content is refused: as damaged, or by the lock file.
    """
    lock, trouble = _read_lock(folder, options.public_key)
    files: dict[str, BundleFile] = {}
    for path in bundle_paths(folder):
        before = previous.get(path.name)
        found = before if before is not None and _unchanged(path, before) else _read(path, options)
        files[path.name] = _decide(path.name, found, before, lock, trouble)
    return files


def _read_lock(folder: Path, public_key: Path | None) -> tuple[BundleLock | None, str]:
    try:
        return BundleLock.read(folder, public_key), ""
    except InvalidBundle as error:
        logger.error("nothing new is loaded: %s", error)
        return None, str(error)


def _unchanged(path: Path, before: BundleFile) -> bool:
    return FileStamp.of(path) == before.stamp and _encoder_stamp(path, before.encoder) == before.encoder_stamp


def _encoder_stamp(path: Path, file: str | None) -> tuple[FileStamp | None, ...]:
    if file is None:
        return ()
    encoder = encoder_folder(path) / file
    return FileStamp.of(encoder), FileStamp.of(novelty_path(encoder))


def _read(path: Path, options: LoadOptions) -> BundleFile:
    """Stamps are taken before the file is opened: what changes meanwhile is then read once more."""
    stamp, encoder = FileStamp.of(path), None
    encoder_stamp: tuple[FileStamp | None, ...] = ()
    try:
        bundle = MemoryBundle.load(path)
        reference = bundle.manifest.query_encoder
        if reference is None:
            return BundleFile(stamp, None, (), LoadedBundle(bundle))
        encoder = reference.file
        encoder_stamp = _encoder_stamp(path, encoder)
        return BundleFile(stamp, encoder, encoder_stamp, _with_encoder(path, bundle, options))
    except RecallError as error:
        return BundleFile(stamp, encoder, encoder_stamp, None, str(error))


def _with_encoder(path: Path, bundle: MemoryBundle, options: LoadOptions) -> LoadedBundle:
    reference = bundle.manifest.query_encoder
    assert reference is not None
    file = encoder_folder(path) / reference.file
    encoder = QueryEncoder(file, reference.sha256, device=options.device, threads=options.threads)
    if encoder.query_size != bundle.memory.query_size or encoder.image_shape != bundle.manifest.image.shape:
        raise InvalidBundle(
            f"{path.name}: its query encoder turns {list(encoder.image_shape)} into {encoder.query_size} numbers, "
            f"but the memory has {list(bundle.manifest.image.shape)} and {bundle.memory.query_size}"
        )
    try:
        learned = learned_layers(encoder, bundle.manifest.retraining)
    except ValueError as error:
        raise InvalidBundle(f"{path.name}: its classifiers cannot begin with its encoder: {error}") from error
    return LoadedBundle(bundle, encoder, _novelty_scorer(file, reference.sha256, encoder.query_size), learned)


def _novelty_scorer(encoder: Path, sha256: str, size: int) -> NoveltyScorer | None:
    """None, and a line in the log, for a file that cannot be used: the memory can do without."""
    try:
        found = NoveltyScorer.load(encoder, sha256)
        if found is not None and found.centres.shape[1] != size:
            raise InvalidBundle(f"{novelty_path(encoder).name} cannot be used: it is not of queries of {size} numbers")
        return found
    except InvalidBundle as error:
        logger.error("nothing will be said of how strange pictures are: %s", error)
        return None


def _decide(
    file: str, found: BundleFile, before: BundleFile | None, lock: BundleLock | None, trouble: str
) -> BundleFile:
    """What to serve from a file: what it holds, or what was served from it before, or nothing."""
    served = None if before is None else before.served
    if found.parsed is None:
        reason = found.reason
    elif trouble and found.parsed is not served:  # a damaged lock vouches for nothing, and takes nothing away
        reason = trouble
    else:
        reason = _forbidden(file, found.parsed, lock)
    serves = served if reason else found.parsed
    if serves is not None and _forbidden(file, serves, lock):
        serves = None
    decided = replace(found, reason=reason, served=serves)
    if before is None or (before.reason, before.served) != (reason, serves):
        _log(file, decided)
    return decided


def _forbidden(file: str, loaded: LoadedBundle, lock: BundleLock | None) -> str:
    try:
        if lock is not None:
            lock.check(file, loaded.sha256)
    except InvalidBundle as error:
        return str(error)
    return ""


def _log(file: str, decided: BundleFile) -> None:
    if decided.reason:
        kept = "; what was served from it before still is" if decided.served is not None else ""
        logger.error("bundle rejected: %s%s", decided.reason, kept)
    elif decided.served is not None:
        logger.info("bundle loaded: %s, sha256 %s", file, decided.served.sha256)
