"""Random transforms of pictures, as a pure function of images and generator.

Flips and small rotations are those of the paper (appendix A.1). The others are the operations of differentiable siamese
augmentation (Zhao and Bilen, 2021), with their strengths. All are differentiable in the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

AugmentationName = Literal["none", "flip", "flip+rotate", "color+crop", "color+crop+cutout", "dsa", "dsa-digits"]

# Operations that are applied one after another. Of operations joined by "|", one is drawn for the whole batch.
AUGMENTATIONS: Final[dict[str, tuple[str, ...]]] = {
    "none": (),
    "flip": ("flip",),
    "flip+rotate": ("flip", "rotate"),
    "color+crop": ("color", "crop"),
    "color+crop+cutout": ("color", "crop", "cutout"),
    "dsa": ("color|crop|cutout|flip|scale|rotate",),
    "dsa-digits": ("color|crop|cutout|scale|rotate",),
}
LARGEST_ANGLE = math.radians(15)
LARGEST_SCALE = 1.2
CROP_SHARE, CUTOUT_SHARE = 0.125, 0.5  # of a picture's side
BRIGHTNESS, SATURATION, LEAST_CONTRAST = 1.0, 2.0, 0.5


def augment(images: Tensor, kinds: tuple[str, ...], generator: torch.Generator, *, alike: bool = False) -> Tensor:
    """Augment images [N, C, H, W] in model space; differentiable in the images.

    Every image has random numbers of its own. With `alike`, all images have the same, and as many numbers are drawn for
    one image as for many: two batches that are augmented from generators of the same seed are augmented alike.
    `generator` lives on the CPU, so the draws are the same on every device. Zeros (the mean picture, in model space)
    come in at the borders. The authors' code rotates or flips a whole batch; here each image gets its own draw of both.
    Raises ValueError for an unknown operation.
    """
    unknown = set(_operations(kinds)) - OPERATIONS.keys()
    if unknown:
        raise ValueError(f"unknown augmentation {min(unknown)!r}; there are {', '.join(OPERATIONS)}")
    if not len(images):
        return images
    for kind in kinds:
        choices = kind.split("|")
        chosen = int(torch.randint(len(choices), (), generator=generator)) if len(choices) > 1 else 0
        count, operation = OPERATIONS[choices[chosen]]
        images = operation(images, torch.rand(count, 1 if alike else len(images), generator=generator))
    return images


def common_augmentation(names: Iterable[str]) -> str:
    """The augmentation with the most operations that each of these has; of equals the first in the table."""
    allowed = [_operations(AUGMENTATIONS[name]) for name in names]
    shared = [
        name
        for name, kinds in AUGMENTATIONS.items()
        if all(set(_operations(kinds)) <= set(operations) for operations in allowed)
    ]
    return max(shared, key=lambda name: len(_operations(AUGMENTATIONS[name])))


def flip(images: Tensor, numbers: Tensor) -> Tensor:
    """Mirror images [N, C, H, W] left to right where `numbers` [1, N or 1] are below one half."""
    return torch.where(_column(numbers[0], images) < 0.5, images.flip(3), images)


def rotate(images: Tensor, numbers: Tensor) -> Tensor:
    """Turn images about their centre by up to LARGEST_ANGLE either way, anticlockwise."""
    angles = (numbers[0] * 2 - 1) * LARGEST_ANGLE
    aspect = images.shape[3] / images.shape[2]
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # affine_grid scales both axes to -1..1, so the rotation of an oblong image needs its aspect ratio.
    return _resample(images, [cosine, -sine / aspect, zero, sine * aspect, cosine, zero])


def _scale(images: Tensor, numbers: Tensor) -> Tensor:
    """Shrink or enlarge height and width, each by up to LARGEST_SCALE."""
    across, down = numbers * (LARGEST_SCALE - 1 / LARGEST_SCALE) + 1 / LARGEST_SCALE
    zero = torch.zeros_like(across)
    return _resample(images, [across, zero, zero, zero, down, zero])


def _color(images: Tensor, numbers: Tensor) -> Tensor:
    """Change brightness, then saturation (towards or away from grey), then contrast."""
    brightness, saturation, contrast = (_column(each, images) for each in numbers)
    images = images + (brightness - 0.5) * BRIGHTNESS
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturation * SATURATION) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + LEAST_CONTRAST) + mean


def _crop(images: Tensor, numbers: Tensor) -> Tensor:
    """Shift by up to CROP_SHARE of the side in each direction."""
    height, width = images.shape[2:]
    rows, columns = (
        (_whole(number, 2 * shift + 1) - shift + torch.arange(size) + 1).clamp(0, size + 1).to(images.device)
        for number, size, shift in ((numbers[0], height, _share(height, CROP_SHARE)),
                                    (numbers[1], width, _share(width, CROP_SHARE)))
    )  # fmt: skip
    padded = pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    number = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cutout(images: Tensor, numbers: Tensor) -> Tensor:
    """Set a rectangle with half the height and half the width, cut off at the borders, to zero."""
    height, width = images.shape[2:]
    inside = []
    for number, size in zip(numbers, (height, width), strict=True):
        side = _share(size, CUTOUT_SHARE)
        first = _whole(number, size + 1 - side % 2) - side // 2
        place = torch.arange(size)
        inside.append(((place >= first) & (place < first + side)).to(images.device))
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0)


# How many uniform numbers an image needs, and what is done with numbers [count, N], or [count, 1] for all images alike.
OPERATIONS: Final[dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]]] = {
    "flip": (1, flip),
    "rotate": (1, rotate),
    "scale": (2, _scale),
    "color": (3, _color),
    "crop": (2, _crop),
    "cutout": (2, _cutout),
}


def _operations(kinds: Iterable[str]) -> list[str]:
    return [operation for kind in kinds for operation in kind.split("|")]


def _column(numbers: Tensor, images: Tensor) -> Tensor:
    return numbers.to(images, non_blocking=True).view(-1, 1, 1, 1)


def _whole(numbers: Tensor, count: int) -> Tensor:
    """Whole numbers [N, 1] below `count`, of uniform ones [N]."""
    return (numbers * count).long().clamp(max=count - 1).unsqueeze(1)


def _share(size: int, share: float) -> int:
    return int(size * share + 0.5)


def _resample(images: Tensor, rows: list[Tensor]) -> Tensor:
    """Bilinear interpolation at places that two rows of an affine matrix give, each entry [N] or [1]."""
    matrix = torch.stack(rows, dim=1).view(-1, 2, 3).to(images, non_blocking=True)
    grid = affine_grid(matrix.expand(len(images), -1, -1), list(images.shape), align_corners=False)  # [N, H, W, 2]
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
