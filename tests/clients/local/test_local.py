"""A downloaded classifier sees pictures exactly as the server does, and refuses what it cannot use."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy
import onnx
import pytest
from PIL import Image

import recall_client
from recall_client import LocalClassifier, RecallClient
from recall_client.local.preparation import prepared
from recall_client.messages.models import ImageShape
from recall_client.pictures import Upload
from recall_server.core.io.pictures import decode
from tests.clients.local.onnx_models import brightness_model
from tests.suite.digests import repr_digest

RANDOM = numpy.random.default_rng(4)
COLOUR = RANDOM.integers(0, 256, (30, 50, 3), dtype=numpy.uint8)
LARGE = Image.fromarray(COLOUR).resize((1200, 1000))  # decoded at a smaller scale


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def turned(image: Image.Image) -> bytes:
    exif = image.getexif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", exif=exif)


def see_through() -> Image.Image:
    alpha = RANDOM.integers(0, 256, (30, 50, 1), dtype=numpy.uint8)
    return Image.fromarray(numpy.concatenate([COLOUR, alpha], axis=2))


PICTURES = {
    "colour": encoded(Image.fromarray(COLOUR)),
    "grey": encoded(Image.fromarray(COLOUR[:, :, 0])),
    "jpeg": encoded(Image.fromarray(COLOUR), "JPEG"),
    "cmyk": encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
    "webp": encoded(Image.fromarray(COLOUR), "WEBP"),
    "turned": turned(Image.fromarray(COLOUR)),
    "transparent": encoded(see_through()),
    "palette": encoded(see_through().quantize(8)),
    "one bit": encoded(Image.fromarray(COLOUR[:, :, 0]).convert("1")),
    "sixteen bit": encoded(Image.fromarray(RANDOM.integers(0, 2**16, (20, 20), dtype=numpy.uint16))),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red")),
    "very wide": encoded(Image.new("L", (300, 2), 90)),
    "very tall": encoded(Image.fromarray(COLOUR[:, :3])),
    "large": encoded(LARGE, "JPEG"),
    "large and grey": encoded(LARGE.convert("L"), "JPEG"),
    "large and progressive": encoded(LARGE, "JPEG", progressive=True),
    "large and turned": turned(LARGE.copy()),
    "large, with a preview": encoded(LARGE, "MPO", save_all=True, append_images=[LARGE.resize((90, 80))]),
}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (3, 20, 11)])
@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_is_prepared_as_the_same_bits_as_by_the_server(kind: str, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    (ours,) = prepared([Upload(kind, PICTURES[kind])], ImageShape(channels=channels, height=height, width=width))
    assert numpy.array_equal(ours, decode(PICTURES[kind], shape))


def with_chunk(kind: bytes, content: bytes, *, after_pixels: bool = False, checksum: int | None = None) -> bytes:
    """A PNG of COLOUR with one more chunk, before or after its pixels."""
    data = PICTURES["colour"]
    place = data.index(b"IEND" if after_pixels else b"IDAT") - 4
    crc = zlib.crc32(kind + content) if checksum is None else checksum
    return data[:place] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc) + data[place:]


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment behind its first one."""
    place = 4 + int.from_bytes(data[4:6], "big")
    return data[:place] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[place:]


INFLATES = zlib.compress(bytes(3 * 2**20))
DAMAGED_METADATA = {
    "compressed text that inflates": with_chunk(b"zTXt", b"prompt\0\0" + INFLATES),
    "international text that inflates": with_chunk(b"iTXt", b"prompt\0\x01\0\0\0" + INFLATES),
    "the same after the pixels": with_chunk(b"iTXt", b"prompt\0\x01\0\0\0" + INFLATES, after_pixels=True),
    "profile that inflates": with_chunk(b"iCCP", b"sRGB\0\0" + INFLATES),
    "text with a wrong checksum": with_chunk(b"tEXt", b"a\0b", checksum=7),
    "EXIF with a wrong checksum": with_chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0", checksum=7),
    "EXIF that ends at once": with_chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0"),
    "EXIF that is none": with_chunk(b"eXIf", b"\xff" * 30),
    "private chunk with a wrong checksum": with_chunk(b"prVt", b"mine", checksum=7),
    "time with a wrong checksum": with_chunk(b"tIME", bytes(7), after_pixels=True, checksum=7),
    "JPEG with EXIF that ends at once": with_segment(PICTURES["jpeg"], 0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0"),
    "JPEG with EXIF that is none": with_segment(PICTURES["jpeg"], 0xE1, b"Exif\0\0" + b"\xff" * 40),
    "JPEG with a profile that is none": with_segment(PICTURES["jpeg"], 0xE2, b"ICC_PROFILE\0\x01\x02" + b"\xff" * 9),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", DAMAGED_METADATA)
def test_damaged_metadata_does_not_affect_the_pixels(kind: str) -> None:
    shape = ImageShape(channels=3, height=30, width=50)
    undamaged = PICTURES["jpeg" if kind.startswith("JPEG") else "colour"]
    damaged, whole = prepared([Upload(kind, DAMAGED_METADATA[kind]), Upload("whole", undamaged)], shape)
    assert numpy.array_equal(damaged, whole)


def test_an_orientation_beside_damaged_text_is_applied() -> None:
    turn = with_chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    place = turn.index(b"IDAT") - 4
    text = with_chunk(b"zTXt", b"prompt\0\0" + INFLATES)
    start, end = text.index(b"zTXt") - 4, text.index(b"IDAT") - 4
    both = turn[:place] + text[start:end] + turn[place:]
    shape = ImageShape(channels=3, height=50, width=30)
    one, other = prepared([Upload("both", both), Upload("turned", turn)], shape)
    assert numpy.array_equal(one, other) and numpy.array_equal(one, decode(turn, (3, 50, 30)))


def animation() -> bytes:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a JPEG, PNG or WebP picture"),
        (b"GIF89a but not really", "is not a JPEG, PNG or WebP picture"),
        (encoded(Image.new("RGB", (4, 4)), "GIF"), "is not a JPEG, PNG or WebP picture"),
        (PICTURES["colour"][:-40], "is damaged"),
        (encoded(Image.new("1", (5000, 4000))), "more than 16,000,000"),
        (animation(), "is animated"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^bear.jpg {message}|^bear.jpg has .*{message}"):
        prepared([Upload("bear.jpg", data)], ImageShape(channels=1, height=8, width=8))


def test_a_model_that_knows_familiarity_says_what_shows_none_of_its_classes() -> None:
    classifier = LocalClassifier(brightness_model(familiar=True))
    pictures = [numpy.full((9, 9), value, dtype=numpy.uint8) for value in (0, 51, 255)]
    said = classifier.predict(pictures)
    assert [each.familiarity for each in said] == pytest.approx([0.0, 0.2, 1.0], abs=1e-6)
    assert [each.none_of_these for each in classifier.predict(pictures, none_below=0.5)] == [True, True, False]
    assert classifier.predict_arrays(numpy.zeros((2, 1, 4, 4))).shape == (2, 2)
    (plain,) = LocalClassifier(brightness_model()).predict(pictures[:1])
    assert (plain.familiarity, plain.none_of_these) == (None, None)


def test_a_file_predicts_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "brightness.onnx").write_bytes(brightness_model())
    classifier = LocalClassifier.load(tmp_path / "brightness.onnx")
    assert repr(classifier) == "LocalClassifier(labels=['dark', 'bright'])"
    many = [numpy.full((9, 9), value, dtype=numpy.uint8) for value in (0, 51, 255)] * 200
    said = classifier.predict(many)
    assert [each.label for each in said[:3]] == ["dark", "dark", "bright"] and len(said) == 600
    assert said[1].probabilities["bright"] == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"must be \[N, 1, 4, 4\], not \[2, 4, 4\]"):
        classifier.predict_arrays(numpy.zeros((2, 4, 4), dtype=numpy.float32))
    for dtype in (numpy.uint8, numpy.int64, numpy.bool_):
        with pytest.raises(ValueError, match="must be floats from 0 to 1, not"):
            classifier.predict_arrays(numpy.zeros((2, 1, 4, 4), dtype=dtype))  # type: ignore[arg-type]
    assert classifier.predict_arrays(numpy.zeros((2, 1, 4, 4))).dtype == numpy.float32
    with pytest.raises(TypeError, match="write \\[picture\\]"):
        classifier.predict("photo.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ONNX model that can be run"),
        (b"<html>", "not an ONNX model that can be run"),
        (brightness_model(labels=None), "not a classifier of a recall server"),
        (brightness_model(labels='{"dark": 0}'), "not a classifier of a recall server"),
        (brightness_model(output="queries"), "not a classifier of a recall server"),
        (brightness_model(rank=3), "not a classifier of a recall server"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "strange.onnx").write_bytes(content)
    with pytest.raises(recall_client.UnreadableClassifier, match=f"strange.onnx is .*{message}"):
        LocalClassifier.load(tmp_path / "strange.onnx")
    with pytest.raises(FileNotFoundError):
        LocalClassifier.load(tmp_path / "nowhere.onnx")


def test_a_damaged_download_is_never_used(server: Any, client: RecallClient, describe: Any) -> None:
    server.on("GET", "/classifier/c1", describe("succeeded"))
    whole = brightness_model()
    digest = repr_digest(whole)
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, headers=digest, content=whole))
    assert client.classifier("c1").local().labels == ("dark", "bright")
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, headers=digest, content=whole[:-1] + b"?"))
    with pytest.raises(recall_client.UnexpectedAnswer, match="arrived damaged"):
        client.classifier("c1").local()


def test_missing_packages_are_reported_before_the_download() -> None:
    program = (
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "from recall_client import LocalClassifier\n"
        "try: LocalClassifier(b'')\n"
        "except ImportError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'recall-client[local]'" in ran.stdout


def test_the_models_of_this_file_are_valid() -> None:
    onnx.checker.check_model(onnx.load_from_string(brightness_model()), full_check=True)
