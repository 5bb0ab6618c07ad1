"""Memories: containers of stored tensors that answer queries with training data, by the kind that a manifest names."""

from recall_server.core.memory.addressed_bases import AddressedBases
from recall_server.core.memory.base import (
    BASES,
    CODES,
    ITEMS,
    LINEAR,
    VARIANTS,
    AbstractMemory,
    LazilyRecalled,
    Recalled,
    Setting,
    chosen_rows,
)
from recall_server.core.memory.decoded import Hallucinators, ImageGenerator, LatentCodes
from recall_server.core.memory.described_classes import DescribedClasses
from recall_server.core.memory.lazy_items import LazyItems
from recall_server.core.memory.multi_formation import MultiFormation
from recall_server.core.memory.sparse_bases import SparseBases
from recall_server.core.memory.storage import Storage
from recall_server.core.memory.stored_items import StoredItems
from recall_server.core.memory.targets import TargetForm, Targets, initial_targets

MEMORIES: dict[str, type[AbstractMemory]] = {
    memory.kind: memory
    for memory in (
        StoredItems,
        AddressedBases,
        MultiFormation,
        DescribedClasses,
        SparseBases,
        LatentCodes,
        ImageGenerator,
        Hallucinators,
    )
}

__all__ = [
    "BASES",
    "CODES",
    "ITEMS",
    "LINEAR",
    "MEMORIES",
    "VARIANTS",
    "AbstractMemory",
    "AddressedBases",
    "DescribedClasses",
    "Hallucinators",
    "ImageGenerator",
    "LatentCodes",
    "LazilyRecalled",
    "LazyItems",
    "MultiFormation",
    "Recalled",
    "Setting",
    "SparseBases",
    "Storage",
    "StoredItems",
    "TargetForm",
    "Targets",
    "chosen_rows",
    "initial_targets",
]
