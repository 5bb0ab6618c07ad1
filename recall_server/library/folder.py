"""Reads the folder of bundles: which bundle is served from which file, and which files are refused.

A file is read again only if it or the encoder that it names has changed. A file that is refused does not end the
service of the bundle that was read from it before.
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
from recall_server.core.bundle.manifest import EncoderReference
from recall_server.core.encoders.query_encoder import QueryEncoder, load_encoder
from recall_server.core.encoders.query_novelty import NoveltyScorer, novelty_path
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
    """A bundle and, if it has them, its query encoder and the scorer of how novel pictures are.

    `pretrained` are the encoder's layers, if the bundle's classifiers begin with them. `feature_encoder` is the encoder
    of a memory of features.
    """

    bundle: MemoryBundle
    encoder: QueryEncoder | None = None
    novelty: NoveltyScorer | None = None
    pretrained: Parameters | None = None
    feature_encoder: QueryEncoder | None = None

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def sha256(self) -> str:
        return self.bundle.sha256 or ""


@final
@dataclass(frozen=True)
class Rejection:
    """A file that was not loaded, and one sentence that says why."""

    file: str
    reason: str


@final
@dataclass(frozen=True)
class FileStamp:
    """Changes with the file: a replaced file has another inode, a rewritten one another time or size."""

    size: int
    modified: int  # nanoseconds
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileStamp | None:
        """The stamp of a file; None if it does not exist."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@final
@dataclass(frozen=True, eq=False)
class BundleFile:
    """One file as it was last read: the bundle in it or the reason for refusing it, and the bundle that is served."""

    stamp: FileStamp | None
    encoder: str | None  # the file in `encoders` that the bundle names
    encoder_stamp: tuple[FileStamp | None, ...]  # of that file, and of the scorer beside it
    parsed: LoadedBundle | None
    reason: str = ""
    served: LoadedBundle | None = None


@final
@dataclass(frozen=True)
class LoadOptions:
    """The device of query encoders, and the key that must have signed the lock file, if any."""

    device: Device = "auto"
    public_key: Path | None = None


def scan(folder: Path) -> dict[str, FileStamp | None]:
    """The stamps of all files that a library depends on. They differ when anything has changed.

    A missing folder counts as empty. Raises OSError if a folder cannot be listed.
    """
    stamps = {f"{BUNDLES}/{path.name}": FileStamp.of(path) for path in bundle_paths(folder)}
    stamps |= {f"{ENCODERS}/{path.name}": FileStamp.of(path) for path in _listed(folder / ENCODERS)}
    return stamps | {name: FileStamp.of(folder / name) for name in (LOCK_FILE, SIGNATURE_FILE, ALIASES_FILE)}


def bundle_paths(folder: Path) -> list[Path]:
    """The bundle files of an artifacts folder, sorted by name. Raises OSError."""
    return [path for path in _listed(folder / BUNDLES) if path.name.endswith(SUFFIX) and not path.name.startswith(".")]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_folder(folder: Path, previous: Mapping[str, BundleFile], options: LoadOptions) -> dict[str, BundleFile]:
    """Every file of `folder/bundles` by its name. Files that have not changed since `previous` are not opened again.

    If the new content of a file is damaged, or not in the lock file, its old content is still served.
    """
    lock, lock_fault = _read_lock(folder, options.public_key)
    files: dict[str, BundleFile] = {}
    for path in bundle_paths(folder):
        before = previous.get(path.name)
        found = before if before is not None and _unchanged(path, before) else _read(path, options)
        files[path.name] = _decide(path.name, found, before, lock, lock_fault)
    return files


def _read_lock(folder: Path, public_key: Path | None) -> tuple[BundleLock | None, str]:
    try:
        return BundleLock.read(folder, public_key), ""
    except InvalidBundle as error:
        logger.error("no new bundle is loaded: %s", error)
        return None, str(error)


def _unchanged(path: Path, before: BundleFile) -> bool:
    return FileStamp.of(path) == before.stamp and _encoder_stamp(path, before.encoder) == before.encoder_stamp


def _encoder_stamp(path: Path, file: str | None) -> tuple[FileStamp | None, ...]:
    if file is None:
        return ()
    encoder = encoder_folder(path) / file
    return FileStamp.of(encoder), FileStamp.of(novelty_path(encoder))


def _read(path: Path, options: LoadOptions) -> BundleFile:
    """Read one file. Its stamps are taken first, so that a change during the read is noticed later."""
    stamp, encoder = FileStamp.of(path), None
    encoder_stamp: tuple[FileStamp | None, ...] = ()
    try:
        bundle = MemoryBundle.load(path)
        reference = bundle.manifest.query_encoder or bundle.manifest.feature_encoder
        encoder = None if reference is None else reference.file
        encoder_stamp = _encoder_stamp(path, encoder)
        return BundleFile(stamp, encoder, encoder_stamp, with_encoders(path, bundle, options))
    except RecallError as error:
        return BundleFile(stamp, encoder, encoder_stamp, None, str(error))


def with_encoders(path: Path, bundle: MemoryBundle, options: LoadOptions) -> LoadedBundle:
    """The bundle, whose file has this path, with the encoder that it names. Raises InvalidBundle."""
    if bundle.manifest.feature_encoder is not None:
        return _with_feature_encoder(path, bundle, bundle.manifest.feature_encoder, options)
    if bundle.manifest.query_encoder is not None:
        return _with_query_encoder(path, bundle, bundle.manifest.query_encoder, options)
    return LoadedBundle(bundle)


def _with_query_encoder(
    path: Path, bundle: MemoryBundle, reference: EncoderReference, options: LoadOptions
) -> LoadedBundle:
    file = encoder_folder(path) / reference.file
    encoder = load_encoder(file, reference.sha256, device=options.device)
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


def _with_feature_encoder(
    path: Path, bundle: MemoryBundle, reference: EncoderReference, options: LoadOptions
) -> LoadedBundle:
    shape = bundle.manifest.image.shape
    file = encoder_folder(path) / reference.file
    encoder = load_encoder(file, reference.sha256, image_shape=shape, device=options.device)
    if encoder.query_size != reference.query_size or encoder.image_shape != shape:
        raise InvalidBundle(
            f"{path.name}: its encoder turns {list(encoder.image_shape)} into {encoder.query_size} features, "
            f"but the memory has {list(shape)} and {reference.query_size}"
        )
    return LoadedBundle(bundle, feature_encoder=encoder)


def _novelty_scorer(encoder: Path, sha256: str, size: int) -> NoveltyScorer | None:
    """The scorer beside the encoder, which is optional: a damaged one is logged and ignored."""
    try:
        found = NoveltyScorer.load(encoder, sha256)
        if found is not None and found.centres.shape[1] != size:
            raise InvalidBundle(f"{novelty_path(encoder).name} cannot be used: its queries do not have {size} numbers")
        return found
    except InvalidBundle as error:
        logger.error("the novelty of pictures is not scored: %s", error)
        return None


def _decide(
    file: str, found: BundleFile, before: BundleFile | None, lock: BundleLock | None, lock_fault: str
) -> BundleFile:
    """Decide what to serve from a file: the bundle in it, the one served from it before, or none."""
    served = None if before is None else before.served
    if found.parsed is None:
        reason = found.reason
    elif lock_fault and found.parsed is not served:  # a damaged lock adds no bundle, and removes none
        reason = lock_fault
    else:
        reason = _forbidden(file, found.parsed, lock)
    served = served if reason else found.parsed
    if served is not None and _forbidden(file, served, lock):
        served = None
    decided = replace(found, reason=reason, served=served)
    if before is None or (before.reason, before.served) != (reason, served):
        _log(file, decided)
    return decided


def _forbidden(file: str, loaded: LoadedBundle, lock: BundleLock | None) -> str:
    """Why the lock file forbids serving this bundle; empty if it does not."""
    try:
        if lock is not None:
            lock.check(file, loaded.sha256)
    except InvalidBundle as error:
        return str(error)
    return ""


def _log(file: str, decided: BundleFile) -> None:
    if decided.reason:
        kept = "; the bundle read from it before is still served" if decided.served is not None else ""
        logger.error("bundle rejected: %s%s", decided.reason, kept)
    elif decided.served is not None:
        logger.info("bundle loaded: %s, sha256 %s", file, decided.served.sha256)
