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
    """Augment images [N, C, H, W] in model space, with one draw per image; differentiable in the images.

    "flip" mirrors an image with probability 1/2. "rotate" turns it by a uniform angle of up to 15 degrees either way,
    with bilinear interpolation and zeros (the mean picture, in model space) at the corners. The authors' code applies
    one of the two to a whole batch; here each image gets its own draw of both. `generator` lives on the CPU, so the
    draws are the same on every device. Raises ValueError for an unknown kind.
    """
    unknown = set(kinds) - {"flip", "rotate"}
    if unknown:
        raise ValueError(f"unknown augmentation {min(unknown)!r}; use 'flip' or 'rotate'")
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
    """Rotate images [N, C, H, W] about their centre by `angles` [N] in radians, anticlockwise."""
    aspect = images.shape[3] / images.shape[2]
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # affine_grid scales both axes to -1..1, so the rotation of an oblong image needs its aspect ratio.
    rows = torch.stack([cosine, -sine / aspect, zero, sine * aspect, cosine, zero], dim=1).view(-1, 2, 3)  # [N, 2, 3]
    grid = affine_grid(rows.to(images, non_blocking=True), list(images.shape), align_corners=False)  # [N, H, W, 2]
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
