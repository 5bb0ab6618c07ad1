"""Decoding in processes that can be killed: the same pixels, and limits of time, memory and patience."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from benchmarks.hostile_files import flat_webp, progressive
from recall_server.core.io.decoding import DecodingProcesses
from recall_server.core.io.killable import WorkLimits
from recall_server.core.io.pictures import MAX_SCANS, decode, decode_bytes, decoding_work
from recall_server.errors import Abandoned, PictureTooLarge, UnreadablePicture, UnsupportedQuery

SHAPE = (3, 16, 16)


@pytest.fixture
def processes() -> Iterator[DecodingProcesses]:
    pool = DecodingProcesses(1)
    yield pool
    pool.close()


def photo(width: int = 1600, height: int = 1200, **options: object) -> bytes:
    """A smooth picture of random colours."""
    small = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    image.save(stream, **{"format": "JPEG", "quality": 90} | options)
    return stream.getvalue()


@pytest.mark.process
def test_a_process_gives_the_pixels_and_the_errors_of_the_function(processes: DecodingProcesses) -> None:
    for data in (photo(), photo(format="PNG"), photo(300, 500, format="WEBP")):
        np.testing.assert_array_equal(processes.decode(data, SHAPE), decode_bytes(data, SHAPE))
    for data, shape, kind in (
        (photo()[:2000], SHAPE, UnreadablePicture),
        (b"GIF89a", SHAPE, UnreadablePicture),
        (photo(), (2, 8, 8), UnsupportedQuery),
        (flat_webp(4001), SHAPE, PictureTooLarge),
    ):
        with pytest.raises(kind, match=r"1\.jpg|2") as caught:
            processes.decode(data, shape, name="1.jpg")
        assert isinstance(caught.value, PictureTooLarge | UnreadablePicture | UnsupportedQuery)
        assert caught.value.parameter == "1.jpg"


@pytest.mark.process
def test_a_picture_that_takes_too_long_ends_its_process_and_the_next_is_decoded() -> None:
    hurried = DecodingProcesses(1, WorkLimits(processor_seconds=0.02, seconds=60, memory=2**30))
    try:
        with pytest.raises(PictureTooLarge, match="too much time or memory"):
            hurried.decode(flat_webp(4000), SHAPE, name="slow")
        small = photo(20, 20)
        np.testing.assert_array_equal(hurried.decode(small, SHAPE), decode_bytes(small, SHAPE))
    finally:
        hurried.close()


@pytest.mark.process
def test_decoding_is_abandoned_if_nobody_waits(processes: DecodingProcesses) -> None:
    with pytest.raises(Abandoned):
        processes.decode(flat_webp(4000), SHAPE, wanted=lambda: False)
    assert processes.decode(photo(), SHAPE).shape == SHAPE


def test_a_caller_that_waits_too_long_for_a_process_gets_an_error(processes: DecodingProcesses) -> None:
    process = processes._idle.get()
    began = time.monotonic()
    with pytest.raises(Abandoned):
        processes.decode(photo(), SHAPE, wanted=lambda: time.monotonic() < began + 0.3)
    processes._idle.put(process)


@pytest.mark.parametrize("scans", [MAX_SCANS + 1, 600])
def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(scans: int) -> None:
    data = progressive(scans)
    with pytest.raises(PictureTooLarge, match="has more than 32 scans"):
        decode(data, SHAPE)
    with pytest.raises(PictureTooLarge):
        decoding_work(b"".join((data[:2], b"\xff\xfe\x00\x04\xff\xd9", data[2:])))  # a comment that holds an end


def test_progressive_jpegs_are_decoded_and_each_scan_is_charged() -> None:
    assert decode(progressive(MAX_SCANS), SHAPE).shape == SHAPE
    assert decoding_work(photo(100, 100)) == 10_000
    assert decoding_work(photo(100, 100, format="PNG")) == 10_000
    assert decoding_work(photo(100, 100, progressive=True)) == 19_000


def test_scans_of_a_preview_behind_the_photo_are_not_charged() -> None:
    preview = progressive(MAX_SCANS)
    assert decoding_work(photo(100, 100) + preview * 3) == 10_000


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("size", [(1600, 1200), (1001, 3003)])
def test_a_large_jpeg_is_decoded_at_a_smaller_scale_and_looks_the_same(
    options: dict[str, object], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photo(*size, **options)
    reduced = decode_bytes(data, (3, 32, 32)).astype(int)
    monkeypatch.setattr("recall_server.core.io.pictures.REDUCED_PIXELS", 10**9)
    difference = np.abs(reduced - decode_bytes(data, (3, 32, 32)))
    assert difference.mean() < 1
    assert difference.max() <= 12
