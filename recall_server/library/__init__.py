"""The loaded bundles, reloaded when their files change, and the names of labels over all of them."""

from __future__ import annotations

from recall_server.library.folder import LoadedBundle, LoadOptions, Rejection
from recall_server.library.handed_in import HandedIn
from recall_server.library.library import Library
from recall_server.library.names import LabelReference
from recall_server.library.watcher import WatchedLibrary

__all__ = [
    "HandedIn",
    "LabelReference",
    "Library",
    "LoadOptions",
    "LoadedBundle",
    "Rejection",
    "WatchedLibrary",
]
