"""Views of a memory: its bases as pictures, and the similarity of its labels.

Both raise NotFound for a kind of memory that has no such view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import BASES, AddressedBases
from recall_server.core.memory.resizing import enlarge
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.errors import InvalidRequest, NotFound

SHEET_COLUMNS = 8
MOST_COMPARED = 1000  # labels: a table of a million numbers
DECIMALS = 6
CHUNK = 64  # bases processed together: bounds the memory used


def has_bases(bundle: MemoryBundle) -> bool:
    """Whether `displayed_bases` has anything to show."""
    return BASES in bundle.memory.traits and bundle.manifest.space == "pixels"


def has_similarity(bundle: MemoryBundle) -> bool:
    """Whether the bundle has label coefficients for `similarity`."""
    return has_bases(bundle) and bundle.manifest.queries == "labels"


def displayed_bases(bundle: MemoryBundle) -> NDArray[np.float32]:
    """The bases [K, C, h, w] as pictures: what each adds to an image in pixel space, stretched to 0..1.

    For a preprocessing that accepts only full-size images, the bases are enlarged and the result is reduced again. A
    constant basis is grey. Raises NotFound for a memory without bases.
    """
    memory = bundle.memory
    if not isinstance(memory, AddressedBases):
        raise NotFound(f"the memory {bundle.manifest.name!r} has no bases: it is of the kind {memory.kind}")
    if bundle.manifest.space == "features":
        raise NotFound(f"the bases of {bundle.manifest.name!r} are features of an encoder, which are no pictures")
    chunks = torch.split(memory.bases.detach(), CHUNK)
    pixels: NDArray[np.float32] = torch.cat(
        [_as_pictures(chunk, memory, bundle.preprocessing) for chunk in chunks]
    ).numpy()
    return pixels


def _as_pictures(bases: Tensor, memory: AddressedBases, preprocessing: AbstractPreprocessing) -> Tensor:
    """Bases [n, C, h, w] in model space -> pictures in 0..1."""
    channels, height, width = bases.shape[1:]
    images = bases.double()  # a basis may add little compared with the mean
    if not preprocessing.fits((channels, height, width)):
        images = enlarge(images, memory.size)
    added = preprocessing.to_pixels(images) - preprocessing.to_pixels(torch.zeros_like(images[:1]))
    if added.shape[2:] != (height, width):
        added = interpolate(added, size=(height, width), mode="area")
    low, high = added.amin(dim=(1, 2, 3), keepdim=True), added.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high > low, (added - low) / (high - low), 0.5).float()


def sheet_rows(bases: NDArray[np.float32]) -> list[tuple[str, NDArray[np.float32]]]:
    """The rows of a contact sheet of displayed bases, numbered from 0."""
    return [
        (f"bases from {start}", bases[start : start + SHEET_COLUMNS]) for start in range(0, len(bases), SHEET_COLUMNS)
    ]


def similarity(bundle: MemoryBundle, labels: Sequence[str]) -> list[list[float]]:
    """Cosine similarity of the labels' coefficients, averaged over the rows (paper, section 5.1, figures 3 and 6).

    Row i, column j compares the i-th label with the j-th: 1 if they use the bases in the same proportions, 0 if their
    coefficients are orthogonal. The diagonal is 1, and a label whose coefficients are zero has 0 with all others.
    Raises NotFound for a memory whose labels have no coefficients, UnknownLabel, and InvalidRequest for more than
    MOST_COMPARED labels.
    """
    memory, name = bundle.memory, bundle.manifest.name
    if bundle.manifest.queries != "labels":
        raise NotFound(f"the memory {name!r} is addressed by pictures, so its labels have no coefficients to compare")
    if not isinstance(memory, AddressedBases):
        raise NotFound(
            f"the memory {name!r} is of the kind {memory.kind}, so its labels have no coefficients to compare"
        )
    if len(labels) > MOST_COMPARED:
        raise InvalidRequest(
            f"{len(labels)} labels are more than the {MOST_COMPARED} that can be compared at once; name fewer",
            parameter="labels",
        )
    averaged = memory.addressing.detach().double().mean(dim=0)  # [d_y, K]
    table = _cosines(bundle.label_queries(labels).double() @ averaged)
    rounded: list[list[float]] = [[round(value, DECIMALS) for value in row] for row in table.tolist()]
    return rounded


def _cosines(vectors: Tensor) -> Tensor:
    """Cosine similarities [n, n] of vectors [n, K]: exactly symmetric, within -1..1, and 1 on the diagonal."""
    lengths = vectors.norm(dim=1, keepdim=True)
    units = vectors / torch.where(lengths > 0, lengths, 1.0)
    cosines = units @ units.T
    symmetric = ((cosines + cosines.T) / 2).clamp(-1, 1)
    return symmetric.fill_diagonal_(1.0)
