"""The starts of a task's memory: noise, or principal directions of the samples seen."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from trainer.data.enlargement import Enlargement
from trainer.starts.eigenvectors import representatives
from trainer.starts.random import noise_start
from trainer.streams.buffer.samples import full_resolution, unit_rows
from trainer.streams.learners.recipe import StreamMethod
from trainer.streams.sources.task import TaskHeader


def plane(recipe: StreamMethod, header: TaskHeader) -> Enlargement:
    """The subspace of images that the recipe's stored bases can represent for this task."""
    _, height, width = header.image_shape
    return Enlargement.from_half(height, width) if recipe.resolution == "half" else full_resolution(height, width)


def noise_memory(recipe: StreamMethod, header: TaskHeader, rows: int, generator: torch.Generator) -> AddressedBases:
    """The paper's start, at the recipe's resolution."""
    return noise_start(
        header.image_shape,
        bases=recipe.bases,
        rows=rows,
        query_size=len(header.classes),
        generator=generator,
        stored_shape=None if recipe.resolution == "half" else header.image_shape,
    )


def principal_memory(  # noqa: PLR0917
    recipe: StreamMethod, header: TaskHeader, rows: int, images: Tensor, labels: Tensor, generator: torch.Generator
) -> AddressedBases:
    """Principal directions of samples [n, C, H, W] in model space, addressed by the centroids of each class.

    It is `trainer.starts.eigenvectors` for few samples: directions beyond their span and classes without samples are
    random.
    """
    flat = plane(recipe, header)
    coordinates = flat.coordinates(images)  # [n, p]
    _, values, vectors = torch.linalg.svd(coordinates, full_matrices=False)
    found = unit_rows(values[: recipe.bases, None] * vectors[: recipe.bases])
    random = torch.randn(recipe.bases - len(found), coordinates.shape[1], generator=generator)
    random -= random @ found.T @ found
    directions = torch.cat([found, torch.linalg.qr(random.T)[0].T])  # [K, p]
    codes = coordinates @ directions.T
    addressing = torch.stack(
        [_centres(codes[labels == label], codes, rows, generator) for label in range(len(header.classes))], dim=1
    )
    stored = flat.stored(directions, header.image_shape[0])
    scale = addressing.square().mean() / stored.square().mean()
    balance = scale.sqrt().sqrt() if scale > 0 else torch.ones(())
    _, height, width = header.image_shape
    return AddressedBases(stored * balance, addressing / balance, height, width)


def _centres(mine: Tensor, codes: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Coefficients [n, K] of one class -> centroids [rows, K]."""
    if not len(mine):
        return torch.randn(rows, codes.shape[1], generator=generator) * codes.std(dim=0)
    return representatives(mine, rows, int(torch.randint(2**31, (), generator=generator)), "centres")
