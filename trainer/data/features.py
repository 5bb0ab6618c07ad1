"""Pictures of a data set as features of an encoder, computed once.

Features are kept in half precision, in a cache that is addressed by content: a file holds the features of one chunk of
pictures, under a digest of these pictures and of the encoder. A run that is interrupted goes on where it stopped, and
two data sets that share pictures share their features.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.pictures import fit
from recall_server.core.io.tensor_file import FileLimits, pack, read_bounded, unpack
from trainer.data.cache import kept_in
from trainer.data.progress_line import ProgressLine

CHUNK = 512  # pictures of a file of the cache
KEY = "features"
LIMITS = FileLimits(file_bytes=2**30, numbers=2**28)

Report = Callable[[int, int, float], None]  # pictures so far, pictures in all (0: unknown), pictures a second


class EncodingProgress:
    """How many pictures have features, on stderr. Nothing is said while features come from the cache."""

    def __init__(self) -> None:
        self._line = ProgressLine()

    def __call__(self, count: int, expected: int, rate: float) -> None:
        if rate:
            left = max(0, expected - count) / rate if expected else None
            self._line.show(f"features of {count:,} pictures, {rate:.0f} a second", left)


def cache_folder(name: str = "features") -> Path:
    """The folder of this name in $RECALL_CACHE, or in a folder of the user's own."""
    return kept_in("RECALL_CACHE") / name


@final
class Featuriser:
    """Pictures uint8 [N, C, H, W] -> features float16 [N, D, 1, 1], each picture cut square and resized first.

    `cache` None computes everything anew. `report` is told how far it is after every chunk, of `expected` pictures.
    """

    def __init__(
        self, encoder: QueryEncoder, *, cache: Path | None = None, report: Report = lambda count, expected, rate: None
    ) -> None:
        self.encoder, self.cache, self.report = encoder, cache, report
        self._identity = f"{encoder.sha256} {list(encoder.image_shape)}".encode()
        self._count, self._encoded, self._seconds = 0, 0, 0.0
        self.picture_numbers = 0  # of one of the pictures so far
        self.expected = 0  # pictures in all; those who read them say it

    def digest(self, pictures: str) -> str:
        """The digest of these features, where `pictures` is that of the pictures."""
        return hashlib.sha256(self._identity + pictures.encode()).hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        self.picture_numbers = self.picture_numbers or images[:1].numel()
        chunks = [self._cached(chunk) for chunk in torch.split(images, CHUNK)] if len(images) else []
        features = torch.cat(chunks) if chunks else torch.empty(0, self.encoder.query_size, dtype=torch.float16)
        return features[:, :, None, None]

    def _cached(self, images: Tensor) -> Tensor:
        path = None if self.cache is None else self._path(self.cache, images)
        features = None if path is None else _read(path, (len(images), self.encoder.query_size))
        if features is None:
            features = self._encode(images)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, pack({KEY: features}, key=KEY, text="{}"))
        self._count += len(images)
        self.report(self._count, self.expected, self._encoded / self._seconds if self._seconds else 0.0)
        return features

    def _path(self, cache: Path, images: Tensor) -> Path:
        digest = hashlib.sha256(self._identity)
        digest.update(f"{list(images.shape)}".encode())
        digest.update(images.contiguous().numpy().data)
        name = digest.hexdigest()
        return cache / name[:2] / f"{name}.safetensors"

    def _encode(self, images: Tensor) -> Tensor:
        started = time.monotonic()
        features = self.encoder.encode(prepared(images, self.encoder.image_shape))
        self._encoded += len(images)
        self._seconds += time.monotonic() - started
        return torch.from_numpy(features).half()


def prepared(images: Tensor, shape: tuple[int, int, int]) -> np.ndarray:
    """Pictures uint8 [N, C, H, W] as a server would prepare them for an encoder: float32 [N, *shape] in 0..1."""
    colour = images.expand(-1, shape[0], -1, -1) if images.shape[1] == 1 else images
    if tuple(colour.shape[1:]) == shape:
        return (colour.float() / 255).numpy()
    pictures = (Image.fromarray(each) for each in colour.permute(0, 2, 3, 1).numpy())
    sized = np.stack([np.asarray(fit(each, shape[2], shape[1])) for each in pictures])
    return np.ascontiguousarray(sized.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """What the cache has there; None where it has nothing, or something else."""
    try:
        tensors, _ = unpack(read_bounded(path, LIMITS.file_bytes), key=KEY, limits=LIMITS, dtypes=frozenset({"F16"}))
    except (OSError, ValueError):
        return None
    features = tensors.get(KEY)
    return features if features is not None and tuple(features.shape) == shape else None
