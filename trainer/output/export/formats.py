"""The export formats. A format is a function that writes files into an empty folder, and an entry in FORMATS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recall_server.core.io.pictures import from_bytes, to_bytes
from trainer.output.export.images import RecalledImages
from trainer.output.export.names import folder_names
from trainer.output.export.normalisation import Normalisation

DATASETS = {  # the tools' names in file names
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "svhn": "SVHN",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


@dataclass(frozen=True)
class Format:
    """`write` writes the files into a folder, given the images, their normalisation and the data set's name.

    If images are not `normalised`, the tool normalises them and the normalisation is None.
    """

    write: Callable[[Path, RecalledImages, Normalisation | None, str], None]
    normalised: bool
    reads: str


def _dc(folder: Path, recalled: RecalledImages, normalise: Normalisation | None, dataset: str) -> None:
    """One file `res_DC_DATASET_ConvNet_Nipc.pt`: "data" is a list of [images, labels], of which tools use the last."""
    images = _prepared(recalled, normalise)
    name = f"res_DC_{DATASETS.get(dataset, folder_names([dataset])[0])}_ConvNet_{recalled.per_label}ipc.pt"
    _save(folder / name, {"data": [[images, recalled.targets]], "accs_all_exps": {}})


def _mtt(folder: Path, recalled: RecalledImages, normalise: Normalisation | None, dataset: str) -> None:
    _save_three(folder, recalled, normalise, suffix="_best")


def _ddranking(folder: Path, recalled: RecalledImages, normalise: Normalisation | None, dataset: str) -> None:
    _save_three(folder, recalled, normalise, suffix="")


def _save_three(folder: Path, recalled: RecalledImages, normalise: Normalisation | None, *, suffix: str) -> None:
    """Three files: the images, their label numbers, and a learning rate."""
    _save(folder / f"images{suffix}.pt", _prepared(recalled, normalise))
    _save(folder / f"labels{suffix}.pt", recalled.targets)
    _save(folder / f"lr{suffix}.pt", torch.tensor(recalled.learning_rate))


def _idc(folder: Path, recalled: RecalledImages, normalise: Normalisation | None, dataset: str) -> None:
    """`data.pt`, a list of images in pixel space and their label numbers, to be read with a factor of 1."""
    _save(folder / "data.pt", [_prepared(recalled, normalise), recalled.targets])


def _png(folder: Path, recalled: RecalledImages, normalise: Normalisation | None, dataset: str) -> None:
    """One folder per label with one PNG per image, clipped to 0..1."""
    width = len(str(recalled.per_label - 1))
    blocks = torch.split(recalled.pixels, recalled.per_label)
    for name, block in zip(folder_names(recalled.labels), blocks, strict=True):
        (folder / name).mkdir()
        for number, image in enumerate(to_bytes(block.numpy())):
            from_bytes(image).save(folder / name / f"{number:0{width}}.png", format="PNG")


FORMATS: dict[str, Format] = {
    "dc": Format(_dc, normalised=True, reads="DatasetCondensation (DC, DSA, DM), DC-Bench"),
    "mtt": Format(_mtt, normalised=True, reads="mtt-distillation and its descendants, DC-Bench"),
    "idc": Format(_idc, normalised=False, reads="Efficient-Dataset-Condensation"),
    "ddranking": Format(_ddranking, normalised=True, reads="DD-Ranking, DATM"),
    "png": Format(_png, normalised=False, reads="torchvision's ImageFolder, and any tool that reads pictures"),
}


def _prepared(recalled: RecalledImages, normalise: Normalisation | None) -> Tensor:
    return recalled.pixels if normalise is None else normalise(recalled.pixels)


def _save(path: Path, content: Any) -> None:
    """Save tensors in lists and dictionaries. Tensors are copied, because torch stores the whole storage of a view."""
    torch.save(_copied(content), path)


def _copied(content: Any) -> Any:
    if isinstance(content, Tensor):
        return content.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(content, list):
        return [_copied(part) for part in content]
    if isinstance(content, dict):
        return {name: _copied(part) for name, part in content.items()}
    raise TypeError(f"an exported file contains tensors, lists and dictionaries, not {type(content).__name__}")
