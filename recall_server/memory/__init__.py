"""The memories, by the name that a manifest gives them."""

from recall_server.memory.addressed_bases import AddressedBases
from recall_server.memory.base import AbstractMemory
from recall_server.memory.combinations import Combinations
from recall_server.memory.pixels import Pixels
from recall_server.memory.storage import Storage

MEMORIES: dict[str, type[AbstractMemory]] = {memory.kind: memory for memory in (Pixels, AddressedBases)}

__all__ = ["MEMORIES", "AbstractMemory", "AddressedBases", "Combinations", "Pixels", "Storage"]
