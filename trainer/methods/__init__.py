"""The named methods, the specs that they are composed of, the paper's recipes, budgets and overrides.

A file that defines its own method can import everything that it needs from here.
"""

from trainer.methods.method import Method
from trainer.methods.specs.memories import AddressedBasesSpec, MemorySpec, StoredItemsSpec
from trainer.methods.specs.objectives.base import ObjectiveSpec
from trainer.methods.specs.objectives.unrolled import UnrolledSpec
from trainer.methods.specs.outer import Adam, Outer, Sgd
from trainer.methods.specs.preprocessings import StandardiseSpec, ZcaSpec
from trainer.methods.specs.problem import MemoryShape, Problem
from trainer.methods.specs.queries import LabelQueriesSpec, PictureQueriesSpec
from trainer.methods.specs.starts import NoiseStart, PrincipalStart, RealStart, StartSpec

__all__ = [
    "Adam", "AddressedBasesSpec", "LabelQueriesSpec", "MemoryShape", "MemorySpec", "Method", "NoiseStart",
    "ObjectiveSpec", "Outer", "PictureQueriesSpec", "PrincipalStart", "Problem", "RealStart", "Sgd",
    "StandardiseSpec", "StartSpec", "StoredItemsSpec", "UnrolledSpec", "ZcaSpec",
]  # fmt: skip
