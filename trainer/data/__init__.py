"""Data sets by name, folder or arrays, split into training, validation and test pictures that never overlap."""

from trainer.data.datasets import load_dataset
from trainer.data.splits import ImageDataset, Split

__all__ = ["ImageDataset", "Split", "load_dataset"]
