"""How far pictures are from anything that a memory knows, so that nobody mistakes a guess for a memory.

Beside an encoder `NAME.onnx` may lie `NAME.known`: a few centres of what the encoder makes of pictures of
the memory's own data, and how far pictures of that data that nobody trained on are from the nearest of them. A score is
the share of those that are nearer than the picture asked about: one half is usual, close to one is strange.
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
STRANGE: Final = 0.95  # of a class of pictures, on average: what is said of it
LIMITS = FileLimits(file_bytes=2**24, numbers=2**22)
EXACT: Final = "donot_use_mm_for_euclid_dist"  # so that a score does not depend on its company


@final
@dataclass(frozen=True, eq=False)
class NoveltyScorer:
    """`centres` [M, d] in the space of an encoder, and the `distances` [V] to them, ascending, of known pictures.

    Raises ValueError for tensors that cannot be that.
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
        """Calibrated on the encodings [V, d] of pictures that the centres were not made from."""
        return cls(centres.float(), _nearest(known, centres).sort().values)

    def score(self, queries: Tensor) -> Tensor:
        """Encoded pictures [N, d] -> the share [N] of known pictures that are nearer to a centre, 0 to 1."""
        positions = torch.searchsorted(self.distances, _nearest(queries, self.centres))
        return positions.float() / len(self.distances)

    def save(self, encoder: Path, sha256: str) -> Path:
        """Write it beside the encoder of that digest, whole or not at all; StorageFailed where that cannot be done."""
        path = novelty_path(encoder)
        tensors = {"centres": self.centres, "distances": self.distances}
        write_atomically(path, pack(tensors, key=METADATA_KEY, text=sha256))
        return path

    @classmethod
    def load(cls, encoder: str | os.PathLike[str], sha256: str) -> Self | None:
        """What lies beside an encoder; None where nothing does. InvalidBundle for what was not made for it."""
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
    """Where the file of this encoder would be."""
    return encoder.with_name(encoder.stem + SUFFIX)


def _nearest(queries: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(queries.float(), centres.float(), compute_mode=EXACT).amin(dim=1)
