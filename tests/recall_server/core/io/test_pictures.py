"""What becomes of a picture that somebody sends, and which are refused."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from recall_server.core.io.pictures import decode, encode_png
from recall_server.core.reports.contact_sheet import contact_sheet
from recall_server.errors import PictureTooLarge, UnreadablePicture, UnsupportedQuery

ORIENTATION = 0x0112
HALVES = np.zeros((8, 8), dtype=np.uint8)
HALVES[:, :4] = 255  # the left half is white


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def png_by_hand(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG with a header of our choice, which Pillow would not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_grey_picture_of_the_right_size_is_not_changed() -> None:
    values = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    pixels = decode(file_of(Image.fromarray(values)), (1, 8, 8))
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels[0], values / np.float32(255))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_the_three_formats_are_read(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    pixels = decode(file_of(Image.fromarray(HALVES), form, **options), (1, 8, 8))
    np.testing.assert_allclose(pixels[0], HALVES / 255, atol=0.05)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(form: str) -> None:
    with pytest.raises(UnreadablePicture, match="x.gif is no JPEG, PNG or WebP picture"):
        decode(file_of(Image.fromarray(HALVES), form), (1, 8, 8), name="x.gif")


@pytest.mark.parametrize("data", [b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x04\0\0\0WEBP", b"\0" * 1000])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePicture, match="the picture"):
        decode(data, (1, 8, 8))


def test_an_empty_file_is_named() -> None:
    with pytest.raises(UnreadablePicture, match=r"photo\.jpg is empty") as caught:
        decode(b"", (1, 8, 8), name="photo.jpg")
    assert caught.value.parameter == "photo.jpg"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_that_was_cut_off_is_refused(form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = file_of(noise, form)
    with pytest.raises(UnreadablePicture, match="damaged"):
        decode(whole[: len(whole) // 2], (1, 8, 8))


def test_a_small_file_of_81_million_pixels_is_refused_without_decoding_it() -> None:
    bomb = png_by_hand(9000, 9000, 8, 0, b"")  # nothing to decode: only a refusal by the header can be this error
    with pytest.raises(PictureTooLarge, match=r"bomb is too large, at 9000x9000 more than the 16,000,000 pixels"):
        decode(bomb, (1, 8, 8), name="bomb")


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "MPO", {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]}),
    ],
)
def test_a_jpeg_may_have_four_times_the_pixels(mode: str, form: str, options: dict[str, Any]) -> None:
    data = file_of(Image.new("RGB", (4000, 300), (200, 200, 200)).convert(mode), form, **options)
    pixels = decode(data, (3, 8, 8), max_pixels=4000 * 300 // 4)
    np.testing.assert_allclose(pixels, 200 / 255, atol=0.02)
    with pytest.raises(PictureTooLarge, match="at 4000x300 more than the 1,199,996 pixels"):
        decode(data, (3, 8, 8), max_pixels=4000 * 300 // 4 - 1)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_other_pictures_may_not(form: str) -> None:
    with pytest.raises(PictureTooLarge, match="at 4000x300 more than the 1,199,999 pixels"):
        decode(file_of(Image.new("RGB", (4000, 300)), form), (3, 8, 8), max_pixels=4000 * 300 - 1)


def test_no_limit_is_multiplied_beyond_200_megapixels() -> None:
    data = bytearray(file_of(Image.new("L", (16, 16)), "JPEG"))
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = struct.pack(">HH", 20_000, 10_001)
    with pytest.raises(PictureTooLarge, match="more than the 200,000,000 pixels"):
        decode(bytes(data), (1, 8, 8), max_pixels=100_000_000)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_pillows_own_bomb_error_is_the_same_error(side: int) -> None:
    with pytest.raises(PictureTooLarge, match="too large"):
        decode(png_by_hand(side, side, 8, 0, b""), (1, 8, 8))


def test_the_limit_of_pixels_can_be_set() -> None:
    data = file_of(Image.fromarray(HALVES))
    decode(data, (1, 8, 8), max_pixels=64)
    with pytest.raises(PictureTooLarge):
        decode(data, (1, 8, 8), max_pixels=63)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form: str) -> None:
    frames = [Image.fromarray(HALVES), Image.fromarray(255 - HALVES)]
    with pytest.raises(UnreadablePicture, match="animated; send one still picture"):
        decode(file_of(frames[0], form, save_all=True, append_images=frames[1:]), (1, 8, 8))


def test_a_phone_jpeg_with_a_preview_behind_the_photo_is_the_photo() -> None:
    preview = Image.fromarray(255 - HALVES)
    data = file_of(Image.fromarray(HALVES), "MPO", save_all=True, append_images=[preview])
    assert decode(data, (1, 8, 8))[0, 0, 0] > 0.9


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels = decode(file_of(Image.fromarray(values)), (1, 8, 8))
    np.testing.assert_allclose(pixels[0], values / 65535, atol=1 / 255)


def test_sixteen_bit_colour_is_scaled() -> None:
    values = np.zeros((8, 8, 3), dtype=">u2")
    values[..., 0], values[..., 1] = 65535, 32768
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    pixels = decode(png_by_hand(8, 8, 16, 2, rows), (3, 8, 8))
    np.testing.assert_allclose(pixels[:, 0, 0], [1, 0.5, 0], atol=1 / 255)


def test_a_palette_becomes_its_colours() -> None:
    image = Image.fromarray(HALVES // 255)  # entry 1 on the left, entry 0 on the right
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert image.mode == "P"
    pixels = decode(file_of(image), (3, 8, 8))
    np.testing.assert_array_equal(pixels[:, 0, 0], [0, 0, 1])
    np.testing.assert_array_equal(pixels[:, 0, 7], [1, 0, 0])


def test_cmyk_becomes_its_colours() -> None:
    data = file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    np.testing.assert_allclose(decode(data, (3, 8, 8))[:, 4, 4], [1, 0, 0], atol=0.05)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), [1, 1, 1]),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 255)), [1, 0, 0]),
        (Image.new("LA", (8, 8), (0, 128)), [127 / 255] * 3),
    ],
)
def test_transparency_shows_white(image: Image.Image, expected: list[float]) -> None:
    np.testing.assert_allclose(decode(file_of(image), (3, 8, 8))[:, 0, 0], expected, atol=1 / 255)


def test_a_transparent_palette_entry_shows_white() -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([0, 0, 0])
    assert decode(file_of(image, transparency=0), (1, 8, 8)).min() == 1


def test_one_bit_is_black_and_white() -> None:
    pixels = decode(file_of(Image.fromarray(HALVES).convert("1")), (1, 8, 8))
    np.testing.assert_array_equal(pixels[0], HALVES / 255)


def turned(orientation: int) -> NDArray[np.uint8]:
    """How a camera stores HALVES under this EXIF orientation (1 upright ... 8 on its side)."""
    stored = {
        1: HALVES,
        2: np.fliplr(HALVES),
        3: np.rot90(HALVES, 2),
        4: np.flipud(HALVES),
        5: HALVES.T,
        6: np.rot90(HALVES),
        7: np.rot90(HALVES, 2).T,
        8: np.rot90(HALVES, -1),
    }
    return np.ascontiguousarray(stored[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photo_is_set_upright(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = file_of(Image.fromarray(turned(orientation)), form, exif=exif)
    np.testing.assert_allclose(decode(data, (1, 8, 8))[0], HALVES / 255, atol=0.15)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's word on it, which a server only logs
def test_a_photo_with_damaged_exif_is_read() -> None:
    data = file_of(Image.fromarray(HALVES), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_allclose(decode(data, (1, 8, 8))[0], HALVES / 255, atol=0.05)


def test_grey_is_repeated_in_three_channels_and_colour_becomes_luminance() -> None:
    assert np.ptp(decode(file_of(Image.fromarray(HALVES)), (3, 8, 8)), axis=0).max() == 0
    green = decode(file_of(Image.new("RGB", (8, 8), (0, 255, 0))), (1, 8, 8))
    np.testing.assert_allclose(green, 0.587, atol=0.01)


def test_a_wide_picture_is_cropped_not_squeezed() -> None:
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 10:20] = 255
    assert decode(file_of(Image.fromarray(wide)), (1, 5, 5)).min() == 1
    assert decode(file_of(Image.fromarray(wide.T)), (1, 5, 5)).min() == 1
    assert decode(file_of(Image.fromarray(wide)), (1, 2, 6)).shape == (1, 2, 6)


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    np.testing.assert_allclose(decode(file_of(Image.fromarray(board.astype(np.uint8))), (1, 8, 8)), 0.5, atol=0.02)


def test_a_single_pixel_can_be_enlarged() -> None:
    assert decode(file_of(Image.new("L", (1, 1), 51)), (3, 8, 8)) == pytest.approx(0.2)


def test_pictures_need_a_memory_of_one_or_three_channels() -> None:
    with pytest.raises(UnsupportedQuery, match="1 or 3 channels, not into 2"):
        decode(file_of(Image.fromarray(HALVES)), (2, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_clips_and_rounds(channels: int) -> None:
    image = np.full((channels, 2, 2), 0.5, dtype=np.float32)
    image[:, 0, 0], image[:, 1, 1] = -3, 7
    pixels = decode(encode_png(image), (channels, 2, 2))
    np.testing.assert_allclose(pixels[0], [[0, 128 / 255], [128 / 255, 1]])


def test_a_contact_sheet_shows_every_row_and_is_the_same_every_time() -> None:
    grey = np.zeros((3, 1, 8, 8), dtype=np.float32)
    colour = np.zeros((2, 3, 16, 16), dtype=np.float32)
    colour[:, 0] = 1
    rows = [("grey", grey), ("rot, größer", colour)]
    sheet = contact_sheet(rows)
    assert sheet == contact_sheet(rows)
    picture = np.asarray(Image.open(io.BytesIO(sheet)))
    assert picture.shape[1] > 3 * 64
    black, red = (picture == 0).all(axis=2).sum(), (picture == (255, 0, 0)).all(axis=2).sum()
    assert black >= 3 * 64 * 64  # and the letters
    assert red == 2 * 64 * 64


def test_a_contact_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([])
