"""What can be seen of a memory itself: its bases as pictures, and how alike it holds its labels to be.

What a kind of memory does not have is NotFound, with a sentence that says why.
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

SHEET_COLUMNS = 8  # bases side by side
MOST_COMPARED = 1000  # labels: a table of a million numbers
DECIMALS = 6
CHUNK = 64  # bases at a time: bounds the memory used


def has_bases(bundle: MemoryBundle) -> bool:
    """Whether `displayed_bases` has anything to show."""
    return BASES in bundle.memory.traits


def has_similarity(bundle: MemoryBundle) -> bool:
    """Whether `similarity` has anything to compare."""
    return has_bases(bundle) and bundle.manifest.queries == "labels"


def displayed_bases(bundle: MemoryBundle) -> NDArray[np.float32]:
    """The bases [K, C, h, w] as they are stored, each stretched to 0..1, for a basis has no brightness of its own.

    What is shown of each is what it adds to a picture in pixel space. A preprocessing that takes full-size images
    only sees it enlarged, and the result is made small again. A basis that is the same everywhere is grey. Raises
    NotFound for a memory without bases.
    """
    memory = bundle.memory
    if not isinstance(memory, AddressedBases):
        raise NotFound(
            f"the memory {bundle.manifest.name!r} has no bases: it stores {memory.kind}, each image by itself"
        )
    chunks = torch.split(memory.bases.detach(), CHUNK)
    pixels: NDArray[np.float32] = torch.cat(
        [_displayed(chunk, memory, bundle.preprocessing) for chunk in chunks]
    ).numpy()
    return pixels


def _displayed(bases: Tensor, memory: AddressedBases, preprocessing: AbstractPreprocessing) -> Tensor:
    """Some of the bases [n, C, h, w], in model space -> as they are shown."""
    channels, height, width = bases.shape[1:]
    images = bases.double()  # what a basis adds may be little beside the mean
    if not preprocessing.fits((channels, height, width)):
        images = enlarge(images, memory.size)
    added = preprocessing.to_pixels(images) - preprocessing.to_pixels(torch.zeros_like(images[:1]))
    if added.shape[2:] != (height, width):
        added = interpolate(added, size=(height, width), mode="area")
    low, high = added.amin(dim=(1, 2, 3), keepdim=True), added.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high > low, (added - low) / (high - low), 0.5).float()


def sheet_rows(bases: NDArray[np.float32]) -> list[tuple[str, NDArray[np.float32]]]:
    """Rows of a contact sheet for what `displayed_bases` gave; bases are numbered from 0."""
    return [
        (f"bases from {start}", bases[start : start + SHEET_COLUMNS]) for start in range(0, len(bases), SHEET_COLUMNS)
    ]


def similarity(bundle: MemoryBundle, labels: Sequence[str]) -> list[list[float]]:
    """Cosine similarity of the labels' coefficients, averaged over the rows (paper, section 5.1, figures 3 and 6).

    Row i, column j compares the i-th with the j-th of these labels: 1 where they use the bases in the same
    proportions, 0 where they share nothing, and 1 for each with itself. A label without coefficients is like no other.
    Raises NotFound where labels have no coefficients, UnknownLabel, and InvalidRequest for more than MOST_COMPARED.
    """
    memory, name = bundle.memory, bundle.manifest.name
    if bundle.manifest.queries != "labels":
        raise NotFound(
            f"the memory {name!r} is addressed by pictures, so that its labels have no coefficients to compare"
        )
    if not isinstance(memory, AddressedBases):
        raise NotFound(f"the memory {name!r} stores {memory.kind}, so that its labels have no coefficients to compare")
    if len(labels) > MOST_COMPARED:
        raise InvalidRequest(
            f"{len(labels)} labels are more than the {MOST_COMPARED} that one table compares; name some of them",
            parameter="labels",
        )
    averaged = memory.addressing.detach().double().mean(dim=0)  # [d_y, K]
    table = _cosines(bundle.label_queries(labels).double() @ averaged)
    rounded: list[list[float]] = [[round(value, DECIMALS) for value in row] for row in table.tolist()]
    return rounded


def _cosines(vectors: Tensor) -> Tensor:
    """[n, K] -> [n, n], symmetric to the last bit, within -1..1, and 1 on the diagonal."""
    lengths = vectors.norm(dim=1, keepdim=True)
    units = vectors / torch.where(lengths > 0, lengths, 1.0)
    cosines = units @ units.T
    symmetric = ((cosines + cosines.T) / 2).clamp(-1, 1)
    return symmetric.fill_diagonal_(1.0)
