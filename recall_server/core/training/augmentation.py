"""Random flips and small rotations, as a pure function of images and generator (paper, appendix A.1)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

Kind = Literal["flip", "rotate"]

AUGMENTATIONS: dict[str, tuple[Kind, ...]] = {"none": (), "flip": ("flip",), "flip+rotate": ("flip", "rotate")}
LARGEST_ANGLE = math.radians(15)


def augment(images: Tensor, kinds: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """[N, C, H, W] in model space -> the same shape, one draw for each image; differentiable in the images.

    "flip" mirrors every second image on average; "rotate" turns each by an angle uniform within 15 degrees, bilinear,
    with zeros (the mean picture, in model space) coming in at the corners. The authors' code does one of the two to a
    whole batch; here each image gets its own of both. Draws come from `generator`, which lives on the CPU, so that
    they are the same on every device. Raises ValueError for a kind that there is not.
    """
    unknown = set(kinds) - {"flip", "rotate"}
    if unknown:
        raise ValueError(f"there is no augmentation {min(unknown)!r}; use 'flip' or 'rotate'")
    if not len(images):
        return images
    if "flip" in kinds:
        images = flip(images, torch.rand(len(images), generator=generator) < 0.5)
    if "rotate" in kinds:
        turns = torch.rand(len(images), generator=generator) * 2 - 1
        images = rotate(images, turns * LARGEST_ANGLE)
    return images


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the images [N, C, H, W] left to right where `flipped` [N] is true."""
    return torch.where(flipped.to(images.device, non_blocking=True).view(-1, 1, 1, 1), images.flip(3), images)


def rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Turn images [N, C, H, W] about their middle by `angles` [N] in radians, anticlockwise."""
    aspect = images.shape[3] / images.shape[2]
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # affine_grid counts both axes from -1 to 1, so that a turn of an oblong image needs its aspect ratio.
    rows = torch.stack([cosine, -sine / aspect, zero, sine * aspect, cosine, zero], dim=1).view(-1, 2, 3)  # [N, 2, 3]
    grid = affine_grid(rows.to(images, non_blocking=True), list(images.shape), align_corners=False)  # [N, H, W, 2]
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
