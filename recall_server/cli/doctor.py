"""Examines whether this machine can serve: devices, bundles, folders and the job table."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile, gettempdir
from typing import final

import torch

from recall_server import __version__
from recall_server.config import Settings, cluster_refusal, exposure_refusal
from recall_server.core.bundle.lock import LOCK_FILE, BundleLock
from recall_server.core.networks.kernels import prepare
from recall_server.errors import InvalidBundle, StorageFailed
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.library import Library

PAGE = 4096  # bytes
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@final
@dataclass(frozen=True)
class Finding:
    """The result of one check. `good` is False if it keeps the server from working."""

    subject: str
    good: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Check everything that `serve` needs with these settings."""
    return [
        *_versions(),
        _exposure(settings),
        _device(settings),
        *_cluster(settings),
        _kernels(),
        *_lock(settings.artifacts),
        *_bundles(settings),
        _temporary_folder(),
        _state(settings),
        _job_table(settings),
    ]


def _versions() -> Iterator[Finding]:
    yield Finding("version", True, f"{__version__}, Python {platform.python_version()}, torch {torch.__version__}")
    installed = [name for name in RUNTIMES if _is_installed(name)]
    if len(installed) > 1:
        # Both contain the same module, and together they run on the CPU without an error.
        yield Finding("onnxruntime", False, f"{' and '.join(installed)} are both installed; uninstall one of them")
    elif installed:
        yield Finding("onnxruntime", True, f"{installed[0]} {importlib.metadata.version(installed[0])}")
    else:
        yield Finding("onnxruntime", True, "not installed, so bundles that are addressed by pictures cannot be loaded")


def _device(settings: Settings) -> Finding:
    usable = torch.cuda.is_available()
    if settings.device == "cuda" and not usable:
        return Finding("device", False, "cuda is set, but torch cannot use it; choose cpu or auto")
    name = torch.cuda.get_device_name() if usable else f"cpu, {torch.get_num_threads()} threads"
    return Finding("device", True, f"{settings.device}: training on {name if settings.device != 'cpu' else 'cpu'}")


def _cluster(settings: Settings) -> Iterator[Finding]:
    """No finding where the server trains by itself."""
    if settings.workers == "ray":
        refusal = cluster_refusal(settings)
        version = "" if refusal else importlib.metadata.version("ray")
        yield Finding("ray", refusal is None, refusal or f"{version}, for the cluster at {settings.ray_address}")


def _kernels() -> Finding:
    """Always good: without compiled kernels, torch's own operations are used."""
    if prepare():
        return Finding("kernels", True, "compiled for this processor")
    return Finding(
        "kernels", True, "not compiled (see the log), so ConvNets train and predict at half the speed on the CPU"
    )


def _bundles(settings: Settings) -> Iterator[Finding]:
    library = Library.load(settings.artifacts, device=settings.device, public_key=settings.public_key)
    for loaded in library.bundles.values():
        where = f", query encoder on {loaded.encoder.provider}" if loaded.encoder else ""
        yield Finding(f"bundle {loaded.name}", True, f"{len(loaded.bundle.labels)} labels{where}")
    for rejection in library.rejected:
        yield Finding(f"file {rejection.file}", False, rejection.reason)
    if not library.bundles:
        yield Finding("bundles", False, f"none could be loaded from {settings.artifacts.absolute() / 'bundles'}")


def _exposure(settings: Settings) -> Finding:
    refusal = exposure_refusal(settings)
    if refusal is not None:
        return Finding("address", False, refusal)
    keys = ", ".join(f"{key.name} ({key.scope.name.lower()})" for key in settings.keys.keys)
    return Finding(
        "address",
        True,
        f"{settings.host}, API keys: {keys or 'none, so everybody who can reach the server may use it'}",
    )


def _lock(artifacts: Path) -> Iterator[Finding]:
    """No finding without a lock file, which is optional."""
    try:
        lock = BundleLock.read(artifacts)
    except InvalidBundle as error:
        yield Finding("lock", False, str(error))
    else:
        if lock is not None:
            yield Finding("lock", True, f"{LOCK_FILE} lists {len(lock.digests)} bundles")


def _temporary_folder() -> Finding:
    """Forms stay in memory. Only the socket of the training processes and kernels being compiled are there."""
    try:
        with TemporaryFile() as file:
            file.write(b"0" * PAGE)
            file.flush()
    except OSError as error:
        return Finding("temporary folder", False, f"none can be written to ({error.strerror}); set TMPDIR")
    return Finding("temporary folder", True, f"{gettempdir()} can be written to")


def _state(settings: Settings) -> Finding:
    folder = settings.state
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("state", False, f"{folder} cannot be written to: {error.strerror}")
    return Finding("state", free >= settings.min_free_bytes, f"{folder} has {free // 2**20} MiB free")


def _job_table(settings: Settings) -> Finding:
    try:
        SqlJobStore.open(settings.database_url).close()
    except StorageFailed as error:
        return Finding("job table", False, str(error))
    return Finding("job table", True, "can be written to")


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
