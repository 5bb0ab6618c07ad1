"""Bundles that clients hand in: verified like any file of the folder, written beside the others, and served at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import BUNDLES
from recall_server.core.bundle.lock import BundleLock
from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.storage_errors import storage_failure
from recall_server.errors import Conflict, Forbidden, InvalidBundle, InvalidRequest, NotFound, StorageFailed
from recall_server.library.folder import SUFFIX, LoadedBundle, LoadOptions, with_encoders
from recall_server.library.library import Library
from recall_server.library.watcher import WatchedLibrary

Condition = Callable[[str | None], None]  # told the sha256 of what is served under the name; raises to refuse


@final
class HandedIn:
    """Puts bundles into `folder/bundles`, which `library` follows, and removes them. Safe to use from several threads.

    At least `min_free_bytes` of the disk stay free.
    """

    def __init__(self, library: WatchedLibrary, folder: Path, options: LoadOptions, min_free_bytes: int) -> None:
        self._library, self._folder, self._options = library, folder, options
        self._min_free_bytes = min_free_bytes
        self._changing = threading.Lock()

    def put(self, name: str, data: bytes, condition: Condition) -> tuple[LoadedBundle, bool]:
        """Serve the bundle in `data`, which has this name, from now on; and whether the name is new.

        It replaces the file that is served under the name; a new one is named after the bundle. Raises InvalidRequest
        for what a folder would not serve, also without the encoder; Forbidden where the lock file does not vouch for
        it; Conflict where the file is a link, or serves a bundle of another name; StorageFailed where it cannot be
        written; and what `condition` raises.
        """
        digest = self._verified(name, data)
        with self._changing:
            self._library.check()
            library = self._library.current
            before = library.bundles.get(name)
            condition(None if before is None else before.sha256)
            path = self._path(name, library)
            self._check_lock(path.name, digest)
            self._check_room(len(data))
            write_atomically(path, data)
            self._library.check()
            found = self._library.current.bundles.get(name)
        if found is None or found.sha256 != digest:
            raise StorageFailed(f"{path.name} was written, but it is not served; the server's log says why")
        return found, before is None

    def delete(self, name: str, condition: Condition) -> None:
        """Remove the file of the bundle that is served under this name.

        Raises NotFound, StorageFailed, and what `condition` raises.
        """
        with self._changing:
            self._library.check()
            library = self._library.current
            condition(library.get(name).sha256)
            file = library.winners[name]
            try:
                (self._folder / BUNDLES / file).unlink(missing_ok=True)
            except OSError as error:
                raise storage_failure(f"{file} could not be removed", error) from error
            self._library.check()

    def _verified(self, name: str, data: bytes) -> str:
        """The sha256 of a bundle. Raises InvalidRequest for one of another name, or that would not be served."""
        try:
            bundle = MemoryBundle.from_bytes(data)
            if bundle.manifest.name != name:
                raise InvalidRequest(
                    f"the bundle is named {bundle.manifest.name!r}, so it belongs to /bundles/{bundle.manifest.name}",
                    parameter="name",
                )
            with_encoders(self._folder / BUNDLES / f"{name}{SUFFIX}", bundle, self._options)
        except (InvalidBundle, NotFound) as error:
            raise InvalidRequest(f"the bundle is refused: {error}") from error
        return hashlib.sha256(data).hexdigest()

    def _path(self, name: str, library: Library) -> Path:
        """Where a bundle of this name is written. Raises Conflict."""
        file = library.winners.get(name, f"{name}{SUFFIX}")
        other = next((each for each, winner in library.winners.items() if winner == file and each != name), None)
        if other is not None:
            raise Conflict(f"the bundle {other!r} is served from {file}; choose another name")
        path = self._folder / BUNDLES / file
        if path.is_symlink():
            raise Conflict(f"{file} is a link to a bundle that is kept elsewhere; choose another name")
        return path

    def _check_lock(self, file: str, digest: str) -> None:
        """Raise Forbidden where the lock file does not vouch for a bundle of this digest in this file."""
        try:
            lock = BundleLock.read(self._folder, self._options.public_key)
            if lock is not None:
                lock.check(file, digest)
        except InvalidBundle as error:
            raise Forbidden(f"this server serves only bundles that its operator vouches for: {error}") from error

    def _check_room(self, size: int) -> None:
        """Raise StorageFailed where the folder is read-only, or too little of the disk would stay free."""
        folder = self._folder / BUNDLES
        existing = folder if folder.exists() else self._folder
        if not os.access(existing, os.W_OK | os.X_OK):
            raise StorageFailed("the folder of bundles is read-only for this server; its operator adds bundles")
        if shutil.disk_usage(existing).free < self._min_free_bytes + size:
            raise StorageFailed("the disk of this server is full, so no bundle can be added")
