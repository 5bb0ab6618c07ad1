"""The named methods, the specs that they are composed of, the paper's recipes, budgets and overrides."""

from trainer.methods.budget import MemoryBudget, Size
from trainer.methods.method import Method
from trainer.methods.named import METHODS, compose, named
from trainer.methods.specs.memories import AddressedBasesSpec, MemorySpec, StoredItemsSpec
from trainer.methods.specs.objectives import InnerAdam, InnerSgd, NoObjectiveSpec, ObjectiveSpec, UnrolledSpec
from trainer.methods.specs.outer import Adam, Outer, Sgd
from trainer.methods.specs.preprocessings import (
    PreprocessingSpec,
    ProjectedSpec,
    SpectralSpec,
    StandardiseSpec,
    ZcaSpec,
)
from trainer.methods.specs.problem import MemoryShape, Problem
from trainer.methods.specs.queries import LabelQueriesSpec, PictureQueriesSpec, QueriesSpec
from trainer.methods.specs.starts import BundleStart, NoiseStart, PrincipalStart, RealStart, StartSpec

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
    "NoObjectiveSpec",
    "NoiseStart",
    "ObjectiveSpec",
    "Outer",
    "PictureQueriesSpec",
    "PreprocessingSpec",
    "PrincipalStart",
    "Problem",
    "ProjectedSpec",
    "QueriesSpec",
    "RealStart",
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
