"""Whether this machine can serve: devices really usable, bundles that load, folders that can be written."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from recall_server import __version__
from recall_server.library import Library
from recall_server.settings import Settings

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
LITTLE_SPACE = 2**28  # bytes: some hundred classifiers


@final
@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `good` is False where it stands in the way of serving."""

    subject: str
    good: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that `serve` with these settings will need."""
    return [*_versions(), _device(settings), *_bundles(settings), _state(settings.state)]


def _versions() -> Iterator[Finding]:
    yield Finding("version", True, f"{__version__}, Python {platform.python_version()}, torch {torch.__version__}")
    installed = [name for name in RUNTIMES if _is_installed(name)]
    if len(installed) > 1:
        # Both own the same module; together they silently give the CPU.
        yield Finding("onnxruntime", False, f"{' and '.join(installed)} are both installed; uninstall one of them")
    elif installed:
        yield Finding("onnxruntime", True, f"{installed[0]} {importlib.metadata.version(installed[0])}")
    else:
        yield Finding("onnxruntime", True, "not installed, so bundles that pictures address cannot be loaded")


def _device(settings: Settings) -> Finding:
    usable = torch.cuda.is_available()
    if settings.device == "cuda" and not usable:
        return Finding("device", False, "cuda is asked for, but torch cannot use it; choose cpu or auto")
    name = torch.cuda.get_device_name() if usable else f"cpu, {torch.get_num_threads()} threads"
    return Finding("device", True, f"{settings.device}: training on {name if settings.device != 'cpu' else 'cpu'}")


def _bundles(settings: Settings) -> Iterator[Finding]:
    library = Library.load(settings.artifacts, device=settings.device)
    for loaded in library.bundles.values():
        where = f", query encoder on {loaded.encoder.provider}" if loaded.encoder else ""
        yield Finding(f"bundle {loaded.name}", True, f"{len(loaded.bundle.labels)} labels{where}")
    for rejection in library.rejected:
        yield Finding(f"file {rejection.file}", False, rejection.reason)
    if not library.bundles:
        yield Finding("bundles", False, f"none could be loaded from {settings.artifacts / 'bundles'}")


def _state(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("state", False, f"{folder} cannot be written to: {error.strerror}")
    return Finding("state", free >= LITTLE_SPACE, f"{folder} has {free // 2**20} MiB free")


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
