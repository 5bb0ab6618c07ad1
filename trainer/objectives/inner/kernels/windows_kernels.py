"""The kernels of `windows.py`: write the 3x3 windows of images as rows, and add up rows to images."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"
# Triton parses these functions itself; their types are those of the arguments of a call.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def spread_kernel(images, windows, pixels, height, width, channels, WIDTH: tl.constexpr, PIXELS: tl.constexpr):
    """Write images [N, C, H, W] as windows [N * H * W, WIDTH], each like a filter [C, 3, 3]; zeros beyond C * 9."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    tap = tl.arange(0, WIDTH)
    image, row, column = pixel // (height * width), pixel // width % height, pixel % width
    channel = tap // 9
    y = row[:, None] + (tap // 3 % 3 - 1)[None, :]
    x = column[:, None] + (tap % 3 - 1)[None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (channel < channels)[None, :]
    inside &= (pixel < pixels)[:, None]
    place = ((image[:, None] * channels + channel[None, :]) * height + y) * width + x
    values = tl.load(images + place, mask=inside, other=0.0)
    tl.store(windows + pixel[:, None] * WIDTH + tap[None, :], values, mask=(pixel < pixels)[:, None])


@triton.jit
def gather_kernel(windows, images, pixels, height, width, channels, WIDTH: tl.constexpr, PIXELS: tl.constexpr):
    """The transpose: set each pixel of images [N, C, H, W] to the sum of its entries in windows [N * H * W, WIDTH]."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1)
    image, row, column = pixel // (height * width), pixel // width % height, pixel % width
    total = tl.zeros([PIXELS], dtype=images.dtype.element_ty)
    for tap in tl.static_range(9):
        y, x = row + 1 - tap // 3, column + 1 - tap % 3  # the pixel whose window has this one at `tap`
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (pixel < pixels)
        place = (image * height + y) * width + x
        part = tl.load(windows + place * WIDTH + channel * 9 + tap, mask=inside, other=0.0)
        total += part.to(images.dtype.element_ty)
    place = ((image * channels + channel) * height + row) * width + column
    tl.store(images + place, total, mask=pixel < pixels)
