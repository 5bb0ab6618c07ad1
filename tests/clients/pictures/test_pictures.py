"""Every kind of picture that a caller may hold arrives as the file it is, and what is no picture is refused by name."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from recall_client import Picture
from recall_client.pictures import uploads

GREY = numpy.arange(12, dtype=numpy.uint8).reshape(3, 4) * 20
COLOUR = numpy.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def png(array: numpy.ndarray[Any, Any]) -> bytes:
    encoded = BytesIO()
    Image.fromarray(array).save(encoded, format="PNG")
    return encoded.getvalue()


def decoded(data: bytes) -> numpy.ndarray[Any, Any]:
    return numpy.asarray(Image.open(BytesIO(data)))


def test_a_path_sends_the_unchanged_file_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bear.jpg").write_bytes(b"not even looked at")
    for path in (tmp_path / "bear.jpg", str(tmp_path / "bear.jpg")):
        (upload,) = uploads([path], of="bear")
        assert (upload.filename, upload.data) == ("bear.jpg", b"not even looked at")


def test_bytes_and_recalled_pictures_are_sent_unchanged() -> None:
    first, second = uploads([b"some file", Picture(png(GREY))], of="bear")
    assert first.data == b"some file"
    assert second.data == png(GREY)
    assert first.filename == "bear, picture 1"


@pytest.mark.parametrize("array", [GREY, GREY[:, :, None], COLOUR, COLOUR / 255.0, (GREY / 299).astype(numpy.float32)])
def test_an_array_arrives_as_a_png_of_the_same_pixels(array: numpy.ndarray[Any, Any]) -> None:
    (upload,) = uploads([array], of="bear")
    expected = array if array.dtype == numpy.uint8 else numpy.rint(array * 255)
    assert numpy.array_equal(decoded(upload.data), numpy.squeeze(expected))


def test_an_array_of_pictures_equals_a_list_of_them() -> None:
    assert uploads(numpy.stack([COLOUR, COLOUR[::-1]]), of="bear") == uploads([COLOUR, COLOUR[::-1]], of="bear")


def test_a_pillow_image_arrives_upright() -> None:
    turned = Image.fromarray(COLOUR)
    turned.getexif()[0x0112] = 6  # the camera was turned: shown upright, the left column becomes the top row
    (upload,) = uploads([turned], of="bear")
    assert numpy.array_equal(decoded(upload.data), numpy.rot90(COLOUR, k=-1))


def test_a_pillow_image_of_a_mode_that_png_lacks_is_converted() -> None:
    (upload,) = uploads([Image.fromarray(COLOUR).convert("CMYK")], of="bear")
    assert Image.open(BytesIO(upload.data)).mode == "RGB"


def with_exif(entries: bytes) -> Image.Image:
    image = Image.fromarray(COLOUR)
    image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0" + entries
    return image


ENTRY = {
    "orientation": b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0",
    "rational out of the file": b"\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\x7f",
    "unknown type": b"\x1a\x01\xff\0\x01\0\0\0\0\0\0\0",
    "orientation of text": b"\x12\x01\x02\0\x04\0\0\0abc\0",
    "orientation of nine": b"\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damaged", [name for name in ENTRY if name != "orientation"])
def test_unreadable_metadata_is_ignored(damaged: str) -> None:
    image = with_exif(b"\x01\0" + ENTRY[damaged] + b"\0\0\0\0")
    (upload,) = uploads([image], of="bear")
    assert numpy.array_equal(decoded(upload.data), COLOUR)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_orientation_beside_damaged_metadata_is_applied() -> None:
    image = with_exif(b"\x02\0" + ENTRY["orientation"] + ENTRY["rational out of the file"] + b"\0\0\0\0")
    (upload,) = uploads([image], of="bear")
    assert numpy.array_equal(decoded(upload.data), numpy.rot90(COLOUR, k=-1))


def test_a_colour_profile_is_not_sent() -> None:
    image = Image.fromarray(COLOUR)
    image.info["icc_profile"] = bytes(2 * 2**20)  # inflates to more than decoders accept
    (upload,) = uploads([image], of="bear")
    assert b"iCCP" not in upload.data and numpy.array_equal(decoded(upload.data), COLOUR)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF"])
def test_a_format_that_only_pillow_reads_is_sent_as_png(tmp_path: Path, form: str) -> None:
    encoded = BytesIO()
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    frames[0].save(encoded, format=form, **({} if form == "BMP" else {"save_all": True, "append_images": frames[1:]}))
    (tmp_path / "bear.xyz").write_bytes(encoded.getvalue())
    for picture in (encoded.getvalue(), tmp_path / "bear.xyz"):
        (upload,) = uploads([picture], of="bear")
        assert upload.data.startswith(b"\x89PNG")
        assert numpy.array_equal(numpy.asarray(Image.open(BytesIO(upload.data)).convert("L")), GREY)
    damaged = encoded.getvalue()[:20]
    assert uploads([damaged], of="bear")[0].data == damaged  # the server says what is wrong with it


@pytest.mark.parametrize("dtype", [numpy.float16, numpy.float32, numpy.float64])
def test_floats_that_round_to_a_level_are_accepted(dtype: type) -> None:
    array = numpy.array([[1 + 1e-7, -1e-7], [1.001, 0.5]], dtype=dtype)
    (upload,) = uploads([array], of="bear")
    assert decoded(upload.data).tolist() == [[255, 0], [255, 128]]


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (numpy.zeros((3, 28, 28), numpy.uint8), ValueError, r"shape \(3, 28, 28\).*channels come last"),
        (numpy.zeros((0, 28), numpy.uint8), ValueError, r"shape \(0, 28\)"),
        (numpy.full((4, 4), 200.0), ValueError, "floats run from 200 to 200"),
        (numpy.full((4, 4), numpy.nan), ValueError, "within 0 to 1"),
        (numpy.full((4, 4), 1.004), ValueError, "floats run from 1.004 to 1.004"),
        (numpy.full((4, 4), -0.25), ValueError, "floats run from -0.25 to -0.25"),
        (numpy.zeros((4, 4), numpy.int64), ValueError, "array has dtype int64"),
        (Image.new("F", (4, 4)), ValueError, "mode F"),
        (7, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
    ],
)
def test_an_item_that_is_no_picture_is_refused_with_its_index(
    picture: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        uploads([GREY, picture], of="bear")
    assert str(caught.value).startswith("bear, picture 2: ")


@pytest.mark.parametrize("single", ["bear.jpg", Path("bear.jpg"), b"bytes", Picture(b""), GREY, COLOUR])
def test_a_single_picture_instead_of_several_is_refused(single: Any) -> None:
    with pytest.raises(TypeError, match="write \\[picture\\]"):
        uploads(single, of="bear")
    with pytest.raises(TypeError, match="write \\[picture\\]"):
        uploads(Image.new("L", (4, 4)), of="bear")


def test_no_pictures_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="bear: there are no pictures"):
        uploads([], of="bear")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.jpg"):
        uploads(["nowhere.jpg"], of="bear")


def test_a_recalled_picture_converts_to_pillow_and_numpy(tmp_path: Path) -> None:
    picture = Picture(png(GREY))
    assert numpy.array_equal(picture.to_numpy(), GREY[:, :, None])
    assert picture.to_pillow().size == (4, 3)
    assert picture.save(tmp_path / "grey.png").read_bytes() == picture._repr_png_() == png(GREY)
    assert "\\x" not in repr(picture)


def test_the_client_needs_neither_torch_nor_numpy_nor_pillow() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'PIL', 'safetensors'): sys.modules[name] = None\n"
        "import recall_client\n"
        "from recall_client.pictures import uploads\n"
        "assert uploads([b'file'], of='bear')[0].data == b'file'\n"
        "try: recall_client.Picture(b'').to_pillow()\n"
        "except ImportError as error: print(error)\n"
        "try: recall_client.RecallClient().recall_arrays(['Bag'])\n"
        "except ImportError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.count("pip install 'recall-client[images]'") == 2
