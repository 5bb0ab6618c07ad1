"""What a memory is trained for, and the engine of inner training."""

from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.sampler import OuterBatch, Sampler

__all__ = ["AbstractObjective", "OuterBatch", "Sampler", "State"]
