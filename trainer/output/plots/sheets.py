"""Rows of a contact sheet: a bundle's bases and recalled images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.reports.inspection import displayed_bases, has_bases, sheet_rows

Rows = list[tuple[str, NDArray[np.float32]]]

SHEET_LABELS, SHEET_IMAGES = 20, 10
RANDOM_QUERIES = 4  # rows for a memory that is addressed by pictures, which has no labels to recall


def base_rows(bundle: MemoryBundle) -> Rows:
    """The bases as `displayed_bases` draws them; no rows for a memory without bases."""
    return sheet_rows(displayed_bases(bundle)) if has_bases(bundle) else []


def recalled_rows(bundle: MemoryBundle, *, labels: int = SHEET_LABELS, images: int = SHEET_IMAGES) -> Rows:
    """Of the first labels (or of random queries) the first images, each [n, C, H, W] in pixel space."""
    memory, rows = bundle.memory, torch.arange(min(images, bundle.memory.rows))
    if bundle.manifest.queries == "labels":
        names = bundle.labels[:labels]
        queries = bundle.label_queries(names)
    else:
        names = tuple(f"random query {number}" for number in range(RANDOM_QUERIES))
        queries = torch.randn(len(names), memory.query_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        recalled = memory.items(queries, rows.expand(len(queries), -1))
    return [(name, bundle.preprocessing.to_pixels(shown).numpy()) for name, shown in zip(names, recalled, strict=True)]


def picture_rows(bundle: MemoryBundle) -> Rows:
    """Bases and recalled images together."""
    return base_rows(bundle) + recalled_rows(bundle)
