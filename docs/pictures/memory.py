"""Draws what a committed bundle is made of: python docs/pictures/memory.py

Writes bases.png, sum.png and mixture.png to this folder. The same bundle gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.io.atomic import write_atomically
from recall_server.core.memory import AddressedBases
from recall_server.core.reports.contact_sheet import contact_sheet

HERE = Path(__file__).resolve().parent
BUNDLE = HERE.parents[1] / "artifacts/bundles/fashion-mnist.safetensors"
LABEL, OTHER = "Sneaker", "Ankle boot"
ROW = 1  # the row of LABEL that is drawn as a sum
PARTS = (1, 2, 4, 8, 16)
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COLUMNS = 8

Row = tuple[str, NDArray[np.float32]]


def stretched(images: Tensor) -> NDArray[np.float32]:
    """Stretch each image [n, C, H, W] to the range 0 to 1, because bases are not in pixel space."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    shown: NDArray[np.float32] = ((images - low) / (high - low).clamp(min=1e-12)).numpy()
    return shown


def pixels(bundle: MemoryBundle, images: Tensor) -> NDArray[np.float32]:
    """Convert images [n, C, H, W] from model space to pixel space, clipped."""
    shown: NDArray[np.float32] = bundle.preprocessing.to_pixels(images).clamp(0, 1).numpy()
    return shown


def bases(memory: AddressedBases) -> list[Row]:
    """Return rows with all bases."""
    return [
        (f"bases {start + 1} to {start + COLUMNS}", stretched(memory.bases[start : start + COLUMNS]))
        for start in range(0, len(memory.bases), COLUMNS)
    ]


def partial_sums(bundle: MemoryBundle, memory: AddressedBases) -> list[Row]:
    """Return partial sums of one recalled image of LABEL, over its bases with the largest weights."""
    coefficients = memory.addressing[ROW, bundle.labels.index(LABEL)]  # [K]
    order = coefficients.abs().argsort(descending=True)
    kept = torch.zeros(len(PARTS), len(coefficients))
    for number, count in enumerate(PARTS):
        kept[number, order[:count]] = coefficients[order[:count]]
    summed = AddressedBases(memory.bases, kept[None], memory.height, memory.width).items(torch.eye(len(PARTS)))[:, 0]
    weights = ", ".join(f"{coefficients[index]:.2f}" for index in order[: len(PARTS)])
    return [
        (f"the five heaviest bases of a {LABEL}; weights {weights}", stretched(memory.bases[order[: len(PARTS)]])),
        (f"the sum of the heaviest {', '.join(map(str, PARTS))}", pixels(bundle, summed)),
    ]


def mixtures(bundle: MemoryBundle, memory: AddressedBases) -> list[Row]:
    """Return images recalled for mixtures of two labels, for three rows of the memory."""
    ends = bundle.label_queries([LABEL, OTHER])
    queries = torch.stack([(1 - share) * ends[0] + share * ends[1] for share in SHARES])
    recalled = memory.items(queries)
    caption = f"{LABEL} (left) to {OTHER} (right), row"
    return [(f"{caption} {row + 1}", pixels(bundle, recalled[:, row])) for row in range(3)]


def sheets(bundle: MemoryBundle) -> dict[str, Sequence[Row]]:
    """Map the name of each picture to its rows."""
    memory = bundle.memory
    if not isinstance(memory, AddressedBases):
        raise TypeError(f"{bundle.manifest.name} has no bases to draw")
    return {
        "bases": bases(memory),
        "sum": partial_sums(bundle, memory),
        "mixture": mixtures(bundle, memory),
    }


def main() -> None:
    """Draw all three pictures."""
    for name, rows in sheets(MemoryBundle.load(BUNDLE)).items():
        write_atomically(HERE / f"{name}.png", contact_sheet(rows))


if __name__ == "__main__":
    main()
