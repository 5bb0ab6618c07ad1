"""What a memory is trained for, and the engine of inner training."""

from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.components import Components
from trainer.objectives.queries import AbstractQueries, LabelQueries, PictureQueries
from trainer.objectives.real_data import RealData
from trainer.objectives.sampler import OuterBatch, Sampler
from trainer.objectives.unrolled import Unrolled

__all__ = [
    "AbstractObjective",
    "AbstractQueries",
    "Components",
    "LabelQueries",
    "OuterBatch",
    "PictureQueries",
    "RealData",
    "Sampler",
    "State",
    "Unrolled",
]
