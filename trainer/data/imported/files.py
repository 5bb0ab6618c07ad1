"""Read images with labels from a folder of class folders, an `.npz` or a `.safetensors` file, without unpickling.

Arrays are called `images` and `labels`. Images are uint8, or numbers in 0..1, or normalised numbers, as [N, H, W],
[N, H, W, C] or [N, C, H, W]. Labels are whole numbers [N], or one row of numbers per image, [N, k].
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recall_server.core.io.tensor_file import read_bounded
from recall_server.errors import InvalidDataset
from trainer.data.folders.image_folder import decode_file, survey

MOST_BYTES = 2**31  # of a file
MOST_IMAGES = 100_000  # of a folder
PICKLES = (".pt", ".pth", ".pkl")
ARRAYS = ("images", "labels")


@dataclass(frozen=True)
class LabelledImages:
    """`images` [N, C, H, W], float32 with the values of the file, and `labels`, int64 [N] or float32 [N, k].

    Bytes are scaled to 0..1. `classes` are None if the file does not name them.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] | None
    sha256: str


def read_labelled(source: Path, *, image_size: int | None = None) -> LabelledImages:
    """The images of a folder, resized to `image_size` (default: the size of the first), or of a file of arrays.

    Raises InvalidDataset, with one sentence, for anything else.
    """
    if source.is_dir():
        return _read_folder(source, image_size)
    if source.suffix in PICKLES:
        raise InvalidDataset(
            f"{source.name} is a pickle, which can run code and is never loaded here; load it yourself with "
            "torch.load(..., weights_only=True), and write images and labels with safetensors.torch.save_file"
        )
    if source.suffix not in {".npz", ".safetensors"}:
        raise InvalidDataset(f"{source.name} must be a folder of class folders, a .npz or a .safetensors file")
    if image_size is not None:
        raise InvalidDataset("an image size can be chosen for a folder of pictures; those of a file have their own")
    try:
        data = read_bounded(source, MOST_BYTES)
    except FileNotFoundError as error:
        raise InvalidDataset(f"there is no file {source}") from error
    except (OSError, ValueError) as error:
        raise InvalidDataset(f"{source.name} cannot be read: {error}") from error
    arrays, classes = _of_npz(source) if source.suffix == ".npz" else _of_safetensors(source, data)
    images, labels = _images(arrays["images"], source.name), arrays["labels"]
    if len(labels) != len(images) or labels.ndim not in {1, 2} or not len(images):
        raise InvalidDataset(
            f"{source.name}: labels must be [{len(images)}] or [{len(images)}, classes], as there are images, "
            f"not {list(labels.shape)}"
        )
    if labels.ndim == 1 and labels.is_floating_point():
        raise InvalidDataset(f"{source.name}: labels of one number per image must be whole numbers, not {labels.dtype}")
    labels = labels.long() if labels.ndim == 1 else labels.float()
    if not bool(images.isfinite().all() and labels.isfinite().all()):
        raise InvalidDataset(f"{source.name}: images and labels must be finite numbers")
    return LabelledImages(source.stem, images, labels, classes, hashlib.sha256(data).hexdigest())


def _read_folder(folder: Path, image_size: int | None) -> LabelledImages:
    found = survey(folder)
    if found.unreadable:
        raise InvalidDataset(f"{folder.name}: {next(iter(found.unreadable.values()))}")
    if len(found.labels) > MOST_IMAGES:
        raise InvalidDataset(f"{folder.name} has {len(found.labels)} pictures, more than {MOST_IMAGES}; distill it")
    side = image_size or found.shorter_side
    shape = (1 if found.grey else 3, side, side)
    pictures = np.stack([decode_file(path, shape) for path in found.files()])
    digest = hashlib.sha256(json.dumps(found.classes).encode() + pictures.tobytes()).hexdigest()
    images = torch.from_numpy(pictures).float() / 255
    return LabelledImages(folder.resolve().name, images, torch.from_numpy(found.labels), found.classes, digest)


def _of_npz(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a bad file open
            tensors = {name: torch.from_numpy(_plain(arrays[name])) for name in ARRAYS}
            classes = tuple(map(str, arrays["classes"])) if "classes" in arrays else None
    except Exception as error:  # numpy, zipfile, zlib and tokenize raise a dozen kinds of error for damaged files
        raise InvalidDataset(
            f"{path.name} must be an archive of the arrays images and labels: {type(error).__name__}: {error}"
        ) from error
    return tensors, classes


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that torch has."""
    whole = np.issubdtype(array.dtype, np.integer)
    kept = array.dtype == np.uint8
    return np.ascontiguousarray(array if kept else array.astype(np.int64 if whole else np.float32))


def _of_safetensors(path: Path, data: bytes) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    try:
        tensors = safetensors.torch.load(data)
        with safe_open(path, framework="pt") as file:
            named = (file.metadata() or {}).get("classes")
        classes = None if named is None else tuple(map(str, json.loads(named)))
    except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
        raise InvalidDataset(f"{path.name} cannot be read as safetensors: {error}") from error
    missing = [name for name in ARRAYS if name not in tensors]
    if missing:
        raise InvalidDataset(f"{path.name} has no tensor {missing[0]!r}; it has {', '.join(tensors) or 'none'}")
    return tensors, classes


def _images(images: Tensor, name: str) -> Tensor:
    """Images as float32 [N, C, H, W]. Raises InvalidDataset for a layout that is unknown or ambiguous."""
    if images.ndim == 3:
        images = images.unsqueeze(1)
    channels_first, channels_last = (images.ndim == 4 and images.shape[axis] in {1, 3} for axis in (1, 3))
    if channels_first == channels_last:
        raise InvalidDataset(
            f"{name}: images must be [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W], not {list(images.shape)}"
        )
    if channels_last:
        images = images.permute(0, 3, 1, 2)
    if images.is_floating_point():
        return images.float().contiguous()
    if images.dtype != torch.uint8:
        raise InvalidDataset(f"{name}: images must be uint8 or floating-point numbers, not {images.dtype}")
    return images.float().contiguous() / 255
