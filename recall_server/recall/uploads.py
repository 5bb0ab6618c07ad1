"""Uploaded pictures: their limits, and how they are decoded without harm to the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from recall_server.core.io.decoding import PROCESSES, DecodingProcesses
from recall_server.core.io.pictures import decode_bytes, decoding_work
from recall_server.errors import Abandoned, InvalidRequest, PictureTooLarge

INLINE_WORK = 1_000_000  # pixels: what takes longer to decode goes to a process that can be killed

_processes = DecodingProcesses()


@final
@dataclass(frozen=True)
class Picture:
    """An uploaded file: the name of its form part, which is its class, its file name if it has one, and its bytes."""

    part: str
    filename: str
    data: bytes

    @property
    def description(self) -> str:
        """How error messages refer to the picture."""
        return f"the picture {self.filename!r} of the part {self.part!r}"


@final
@dataclass(frozen=True)
class Upload:
    """The request that pictures came with.

    `wanted` tells whether its caller still waits. `charge` is told the work of decoding all its pictures, in pixels,
    before the first is decoded, and may raise an error.
    """

    wanted: Callable[[], bool] = lambda: True
    charge: Callable[[int], None] = lambda work: None


DIRECT = Upload()  # a call of this process: it waits to the end and pays nothing


@final
@dataclass(frozen=True)
class PictureLimits:
    """How many pictures one request may hold, how many pixels each, and how many pixels together."""

    pictures: int
    pixels: int
    total_pixels: int
    upload: Upload = DIRECT


def decode_all(
    pictures: Sequence[Picture], image_shape: tuple[int, int, int], *, limits: PictureLimits
) -> NDArray[np.float32]:
    """The pixels [N, C, H, W] of pictures in 0..1. Errors name the first picture that is at fault.

    Raises errors as `pictures.decode`, and as `check_work` and `decode_checked`.
    """
    return from_bytes(decode_checked(pictures, check_work(pictures, limits), image_shape, limits=limits))


def check_work(pictures: Sequence[Picture], limits: PictureLimits) -> list[int]:
    """The work of decoding each picture, in pixels. Reads headers only.

    Raises InvalidRequest and PictureTooLarge for more than `limits`, and UnreadablePicture.
    """
    if len(pictures) > limits.pictures:
        raise InvalidRequest(f"{len(pictures)} pictures are more than the {limits.pictures} of one request")
    work = [decoding_work(picture.data, name=picture.description, max_pixels=limits.pixels) for picture in pictures]
    if sum(work) > limits.total_pixels:
        raise PictureTooLarge(
            f"these {len(pictures)} pictures have {sum(work):,} pixels to decode together, more than the "
            f"{limits.total_pixels:,} of one request; send smaller ones, or fewer at a time"
        )
    return work


def decode_checked(
    pictures: Sequence[Picture], work: Sequence[int], image_shape: tuple[int, int, int], *, limits: PictureLimits
) -> NDArray[np.uint8]:
    """The pixels [N, C, H, W] of pictures in 8 bits, after the upload was charged with the `work` of `check_work`.

    Raises errors as `pictures.decode`, Abandoned, and what the charge raises.
    """
    limits.upload.charge(sum(work))
    pixels = np.empty((len(pictures), *image_shape), dtype=np.uint8)
    large = [picture for picture, size in zip(pictures, work, strict=True) if size > INLINE_WORK]
    pool = ThreadPoolExecutor(PROCESSES)  # whose threads wait for the processes; none starts for small pictures
    try:
        decoded = pool.map(lambda picture: _decoded(picture, image_shape, limits, inline=False), large)
        for position, (picture, size) in enumerate(zip(pictures, work, strict=True)):
            inline = size <= INLINE_WORK
            pixels[position] = _decoded(picture, image_shape, limits, inline=True) if inline else next(decoded)
    finally:
        pool.shutdown(cancel_futures=True)
    return pixels


def from_bytes(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels of any shape in 8 bits -> in 0..1."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def _decoded(
    picture: Picture, image_shape: tuple[int, int, int], limits: PictureLimits, *, inline: bool
) -> NDArray[np.uint8]:
    if not limits.upload.wanted():
        raise Abandoned("the caller has left before its pictures were decoded")
    name, data = picture.description, picture.data
    if inline:
        return decode_bytes(data, image_shape, name=name, max_pixels=limits.pixels)
    wanted = limits.upload.wanted
    return _processes.decode(data, image_shape, name=name, max_pixels=limits.pixels, wanted=wanted)
