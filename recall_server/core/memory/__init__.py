"""The memories, by the name that a manifest gives them."""

from recall_server.core.memory.addressed_bases import AddressedBases
from recall_server.core.memory.base import AbstractMemory
from recall_server.core.memory.combinations import LazyImages
from recall_server.core.memory.pixels import Pixels
from recall_server.core.memory.storage import Storage

MEMORIES: dict[str, type[AbstractMemory]] = {memory.kind: memory for memory in (Pixels, AddressedBases)}

__all__ = ["MEMORIES", "AbstractMemory", "AddressedBases", "LazyImages", "Pixels", "Storage"]
