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

        Raises InvalidRequest for what a folder would not serve, also without the encoder; Forbidden where the lock file
        does not vouch for it; Conflict where the name is a link; StorageFailed where it cannot be written; and what
        `condition` raises.
        """
        path = self._folder / BUNDLES / f"{name}{SUFFIX}"
        self._verify(path, name, data)
        with self._changing:
            self._library.check()
            before = self._library.current.bundles.get(name)
            condition(None if before is None else before.sha256)
            if path.is_symlink():
                raise Conflict(f"{path.name} is a link to a bundle that is kept elsewhere; choose another name")
            self._check_room(len(data))
            write_atomically(path, data)
            self._library.check()
            found = self._library.current.bundles.get(name)
        if found is None or found.sha256 != hashlib.sha256(data).hexdigest():
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

    def _verify(self, path: Path, name: str, data: bytes) -> None:
        """Raise InvalidRequest or Forbidden for a bundle that would not be served from this path."""
        try:
            bundle = MemoryBundle.from_bytes(data)
            if bundle.manifest.name != name:
                raise InvalidRequest(
                    f"the bundle is named {bundle.manifest.name!r}, so it belongs to /bundles/{bundle.manifest.name}",
                    parameter="name",
                )
            loaded = with_encoders(path, bundle, self._options)
        except (InvalidBundle, NotFound) as error:
            raise InvalidRequest(f"the bundle is refused: {error}") from error
        try:
            lock = BundleLock.read(self._folder, self._options.public_key)
            if lock is not None:
                lock.check(path.name, loaded.sha256)
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
