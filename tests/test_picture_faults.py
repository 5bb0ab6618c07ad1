"""Server, trainer, client and local prediction read the pixels of pictures whose metadata is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recall_client.local.preparation import prepared
from recall_client.messages.models import ImageShape
from recall_client.pictures import Upload, uploads
from recall_server.core.io.metadata import orientation_of, separate
from recall_server.core.io.pictures import decode_bytes
from tests.picture_faults import COUNT, SOUND, faulty
from trainer.data.folders.image_folder import decode_file

SHAPE = (3, 30, 45)
Read = Callable[[bytes, Path], NDArray[np.uint8]]


def by_server(data: bytes, folder: Path) -> NDArray[np.uint8]:
    return decode_bytes(data, SHAPE)


def by_trainer(data: bytes, folder: Path) -> NDArray[np.uint8]:
    (folder / "picture").write_bytes(data)
    return decode_file(folder / "picture", SHAPE)


def by_client(data: bytes, folder: Path) -> NDArray[np.uint8]:
    (upload,) = uploads([data], of="a class")
    return decode_bytes(upload.data, SHAPE)


def by_local_prediction(data: bytes, folder: Path) -> NDArray[np.uint8]:
    channels, height, width = SHAPE
    (pixels,) = prepared([Upload("x", data)], ImageShape(channels=channels, height=height, width=width))
    return np.rint(pixels * 255).astype(np.uint8)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about the damage
@pytest.mark.parametrize("read", [by_server, by_trainer, by_client, by_local_prediction])
def test_a_picture_with_faulty_metadata_is_read(read: Read, tmp_path: Path) -> None:
    sound = {form: read(data, tmp_path) for form, data in SOUND.items()}
    files = list(faulty())
    assert len(files) == COUNT == len({data for _, data in files})
    for form, data in files:
        assert np.array_equal(read(data, tmp_path), sound[form])


@pytest.mark.parametrize("form", SOUND)
def test_removing_faulty_metadata_restores_the_sound_file(form: str) -> None:
    for kind, data in faulty(seed=1):
        if kind == form != "WEBP":  # of WebP the header of the extended form is left, too
            assert separate(data).data == separate(SOUND[form]).data


@pytest.mark.parametrize("form", SOUND)
@pytest.mark.parametrize("length", [0, 1, 7, 8, 11, 12, 13, 20, 21, 25, 33, 40, 60])
def test_truncated_files_are_still_split_into_segments(form: str, length: int) -> None:
    cut = SOUND[form][:length]
    assert separate(cut).orientation == 1
    assert len(separate(cut).data) <= max(len(cut), 12)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0" + b"\xff" * 40,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
    ],
)
def test_an_unreadable_orientation_means_upright(exif: bytes) -> None:
    assert orientation_of(exif) == 1
