"""Separates the pixels of a picture file from its metadata, so that faults of metadata do not cost the picture.

Texts, profiles, thumbnails and camera data may be damaged or inflate to megabytes while the pixels are sound, and
viewers show such pictures. Pillow refuses some of them. It therefore receives files without metadata.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from PIL import Image

ORIENTATION: Final = 0x0112  # the EXIF tag
UPRIGHT: Final = 1
EXIF_HEADER: Final = b"Exif\0\0"
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PNG_KEPT: Final = frozenset({b"tRNS", b"acTL"})  # transparency, and the mark of an animation
JPEG_SIGNATURE: Final = b"\xff\xd8"
# Application segments and comments, but for APP0 (JFIF) and APP14 (Adobe), which say how colours are coded.
JPEG_METADATA: Final = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
JPEG_EXIF, JPEG_SCAN = 0xE1, 0xDA
WEBP_KEPT: Final = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
WEBP_FLAGS: Final = 0xFF & ~(0x20 | 0x08 | 0x04)  # of VP8X, without: has a profile, EXIF, XMP


class Parts(NamedTuple):
    """A picture file without its metadata, and the EXIF orientation that the metadata gave (1 to 8)."""

    data: bytes
    orientation: int


def separate(data: bytes) -> Parts:
    """Split a JPEG, PNG or WebP file. Other files are returned as they are, and upright."""
    if data.startswith(PNG_SIGNATURE):
        return _png(data)
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return Parts(data, UPRIGHT)


def orientation_of(exif: bytes) -> int:
    """The orientation, 1 to 8, in EXIF data (a TIFF file, with or without a header); 1 if it cannot be read."""
    found = Image.Exif()
    try:
        found.load(exif)
        value = found.get(ORIENTATION, UPRIGHT)
    except Exception:  # Pillow's parser raises half a dozen kinds of error on damaged data
        return UPRIGHT
    return value if value in range(1, 9) else UPRIGHT


def _png(data: bytes) -> Parts:
    kept, orientation, position = [PNG_SIGNATURE], UPRIGHT, len(PNG_SIGNATURE)
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind, chunk = data[position + 4 : position + 8], data[position:end]
        critical = kind[:1].isupper()
        intact = critical or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if critical or (kind in PNG_KEPT and intact):
            kept.append(chunk)
        elif kind == b"eXIf" and intact:
            orientation = orientation_of(EXIF_HEADER + chunk[8:-4])
        position = end
    return Parts(b"".join(kept), orientation)


def _jpeg(data: bytes) -> Parts:
    kept, orientation, position = [JPEG_SIGNATURE], UPRIGHT, len(JPEG_SIGNATURE)
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        kind = data[position + 1]
        if kind == JPEG_SCAN:
            break
        if kind == 0xFF:  # a fill byte before a marker
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position:end]
        if kind not in JPEG_METADATA:
            kept.append(segment)
        elif kind == JPEG_EXIF and segment[4:10] == EXIF_HEADER:
            orientation = orientation_of(segment[4:])
        position = end
    return Parts(b"".join([*kept, data[position:]]), orientation)


def _webp(data: bytes) -> Parts:
    kept, orientation, position = list[bytes](), UPRIGHT, 12
    while position < len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + length + length % 2
        kind, chunk = data[position : position + 4], data[position:end]
        if kind == b"VP8X" and len(chunk) > 8:
            chunk = chunk[:8] + bytes([chunk[8] & WEBP_FLAGS]) + chunk[9:]
        if kind in WEBP_KEPT:
            kept.append(chunk)
        elif kind == b"EXIF":
            exif = chunk[8 : 8 + length]
            orientation = orientation_of(exif if exif.startswith(EXIF_HEADER) else EXIF_HEADER + exif)
        position = end
    body = b"WEBP" + b"".join(kept)
    return Parts(b"RIFF" + len(body).to_bytes(4, "little") + body, orientation)
