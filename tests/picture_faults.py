"""Two hundred picture files whose metadata is damaged while their pixels are sound, made from a seed.

Viewers show all of them. Each is a JPEG, PNG or WebP of `SOUND` with one or two faulty pieces of metadata: texts and
profiles that inflate, wrong checksums, EXIF of any bytes, thumbnails that are cut off, unknown private data.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

COUNT = 200
INFLATES = zlib.compress(bytes(3 * 2**20))
PNG_KINDS = (b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf", b"prVt", b"tIME", b"sPLT", b"pHYs", b"gAMA")
JPEG_KINDS = (0xE1, 0xE2, 0xE3, 0xEC, 0xED, 0xEF, 0xFE)
WEBP_KINDS = (b"EXIF", b"XMP ", b"ICCP", b"prVt")
BEGINNINGS = (
    b"",
    b"prompt\0\0",
    b"prompt\0\1\0\0\0",
    b"Exif\0\0",
    b"Exif\0\0II*\0",
    b"II*\0\x08\0\0\0\x05\0",
    b"MM\0*",
)
BEGINNINGS_OF_SEGMENTS = (*BEGINNINGS, b"ICC_PROFILE\0\x01\x02", b"MPF\0", b"Photoshop 3.0\x008BIM", b"JFXX\0\x10")


def sound() -> dict[str, bytes]:
    """The undamaged files by their formats."""
    random = np.random.default_rng(11)
    picture = Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((45, 30))
    files = {}
    for form, options in (("JPEG", {"quality": 90}), ("PNG", {}), ("WEBP", {"lossless": True})):
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        files[form] = stream.getvalue()
    return files


SOUND = sound()


def faulty(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield `COUNT` pairs of a format and a file whose pixels are those of SOUND[format]."""
    random = np.random.default_rng(seed)
    for number in range(COUNT):
        form = ("JPEG", "PNG", "WEBP")[number % 3]
        data = SOUND[form]
        for _ in range(random.integers(1, 3)):
            data = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}[form](data, random)
        yield form, data


def _content(random: np.random.Generator, beginnings: tuple[bytes, ...]) -> bytes:
    rest = random.bytes(int(random.integers(0, 60))) if random.random() < 0.7 else INFLATES
    return beginnings[random.integers(len(beginnings))] + rest


def _png(data: bytes, random: np.random.Generator) -> bytes:
    kind, content = PNG_KINDS[random.integers(len(PNG_KINDS))], _content(random, BEGINNINGS)
    checksum = zlib.crc32(kind + content) ^ int(random.random() < 0.5)
    place = data.index(b"IDAT" if random.random() < 0.5 else b"IEND") - 4
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return data[:place] + chunk + data[place:]


def _jpeg(data: bytes, random: np.random.Generator) -> bytes:
    place = 4 + int.from_bytes(data[4:6], "big")  # behind the first segment
    content = _content(random, BEGINNINGS_OF_SEGMENTS)[:65_000]
    kind = JPEG_KINDS[random.integers(len(JPEG_KINDS))]
    return data[:place] + bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content + data[place:]


def _webp(data: bytes, random: np.random.Generator) -> bytes:
    """The extended form of WebP, with metadata behind the picture."""
    if data[12:16] != b"VP8X":
        size = struct.pack("<I", 45 - 1)[:3] + struct.pack("<I", 30 - 1)[:3]
        flags = 0x20 * (random.random() < 0.5) | 0x08 * (random.random() < 0.5) | 0x04 * (random.random() < 0.5)
        data = data[:12] + b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + size + data[12:]
    content = _content(random, BEGINNINGS)
    kind = WEBP_KINDS[random.integers(len(WEBP_KINDS))]
    body = data[8:] + kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body
