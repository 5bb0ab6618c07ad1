"""The novelty score: how far a picture is from the data that a memory was made from.

The file `NAME.known` beside an encoder `NAME.onnx` has a few cluster centres of the encoder's features of that data,
and the distances of held-out pictures to the nearest centre. The score of a picture is the share of held-out pictures
that are nearer than it: one half is typical, close to one is unfamiliar.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

import torch
from torch import Tensor

from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.tensor_file import FileLimits, pack, read_bounded, unpack
from recall_server.errors import InvalidBundle

METADATA_KEY: Final = "known_pictures"
SUFFIX: Final = ".known"
STRANGE: Final = 0.95  # a class of pictures with a mean score above this is reported as unfamiliar
LIMITS = FileLimits(file_bytes=2**24, numbers=2**22)
EXACT: Final = "donot_use_mm_for_euclid_dist"  # so that a score does not depend on the other pictures of the batch


@final
@dataclass(frozen=True, eq=False)
class NoveltyScorer:
    """Cluster `centres` [M, d] in an encoder's feature space, and ascending `distances` [V] of held-out pictures.

    Raises ValueError for empty, non-finite or unsorted tensors and for wrong shapes.
    """

    centres: Tensor
    distances: Tensor

    def __post_init__(self) -> None:
        if self.centres.ndim != 2 or self.distances.ndim != 1 or 0 in (*self.centres.shape, len(self.distances)):
            raise ValueError("centres must be [M, d] and distances [V], one or more of each")
        if not bool(self.centres.isfinite().all() and self.distances.isfinite().all()):
            raise ValueError("centres and distances must be finite numbers")
        if bool((self.distances.diff() < 0).any()):
            raise ValueError("distances must be in ascending order")

    @classmethod
    def of(cls, centres: Tensor, known: Tensor) -> Self:
        """Calibrate on the features [V, d] of pictures that the centres were not computed from."""
        return cls(centres.float(), _nearest(known, centres).sort().values)

    def score(self, queries: Tensor) -> Tensor:
        """Features [N, d] -> the share [N] of held-out pictures that are nearer to a centre, 0 to 1."""
        positions = torch.searchsorted(self.distances, _nearest(queries, self.centres))
        return positions.float() / len(self.distances)

    def save(self, encoder: Path, sha256: str) -> Path:
        """Write the scorer atomically beside the encoder with this digest; returns its path. Raises StorageFailed."""
        path = novelty_path(encoder)
        tensors = {"centres": self.centres, "distances": self.distances}
        write_atomically(path, pack(tensors, key=METADATA_KEY, text=sha256))
        return path

    @classmethod
    def load(cls, encoder: str | os.PathLike[str], sha256: str) -> Self | None:
        """The scorer beside an encoder, or None. Raises InvalidBundle for one that is damaged or of another encoder."""
        path = novelty_path(Path(encoder))
        try:
            tensors, made_for = unpack(read_bounded(path, LIMITS.file_bytes), key=METADATA_KEY, limits=LIMITS)
            if made_for != sha256:
                raise ValueError("it was made for another encoder")
            if set(tensors) != {"centres", "distances"}:
                raise ValueError("it must hold the tensors centres and distances")
            return cls(tensors["centres"].float(), tensors["distances"].float())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror or error if isinstance(error, OSError) else error
            raise InvalidBundle(f"{path.name} cannot be used: {reason}") from error


def novelty_path(encoder: Path) -> Path:
    """The path of the novelty scorer that belongs to this encoder."""
    return encoder.with_name(encoder.stem + SUFFIX)


def _nearest(queries: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(queries.float(), centres.float(), compute_mode=EXACT).amin(dim=1)
