"""The named methods, the specs that they are composed of, the paper's recipes, budgets and overrides."""

from trainer.methods.budget import MemoryBudget, Size
from trainer.methods.memories import AddressedBasesSpec, MemorySpec, StoredItemsSpec
from trainer.methods.method import Method
from trainer.methods.named import METHODS, compose, named
from trainer.methods.objectives import InnerAdam, InnerSgd, ObjectiveSpec, UnrolledSpec
from trainer.methods.outer import Adam, Outer, Sgd
from trainer.methods.preprocessings import PreprocessingSpec, ProjectedSpec, SpectralSpec, StandardiseSpec, ZcaSpec
from trainer.methods.problem import MemoryShape, Problem
from trainer.methods.queries import LabelQueriesSpec, PictureQueriesSpec, QueriesSpec
from trainer.methods.starts import BundleStart, NoiseStart, PrincipalStart, StartSpec

__all__ = [
    "METHODS",
    "Adam",
    "AddressedBasesSpec",
    "BundleStart",
    "InnerAdam",
    "InnerSgd",
    "LabelQueriesSpec",
    "MemoryBudget",
    "MemoryShape",
    "MemorySpec",
    "Method",
    "NoiseStart",
    "ObjectiveSpec",
    "Outer",
    "PictureQueriesSpec",
    "PreprocessingSpec",
    "PrincipalStart",
    "Problem",
    "ProjectedSpec",
    "QueriesSpec",
    "Sgd",
    "Size",
    "SpectralSpec",
    "StandardiseSpec",
    "StartSpec",
    "StoredItemsSpec",
    "UnrolledSpec",
    "ZcaSpec",
    "compose",
    "named",
]
