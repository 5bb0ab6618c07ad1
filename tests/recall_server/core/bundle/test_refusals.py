"""What must not be saved, loaded or put together; tests/hostile_bundles has the ways that fit into a small file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from recall_server.core.bundle.bundle import FileLimits, MemoryBundle
from recall_server.core.bundle.manifest import Budget
from recall_server.core.memory import AbstractMemory, LatentCodes, StoredItems
from recall_server.core.memory.decoded import DecoderShape, initial_decoders
from recall_server.core.preprocessing import ZCA
from recall_server.errors import InvalidBundle, NotFound, RecallError, StorageFailed
from tests.recall_server.bundle_examples import (
    example_bundle,
    example_manifest,
    example_memory,
    example_preprocessing,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "example.safetensors"


def replaced(bundle: MemoryBundle, memory: AbstractMemory) -> MemoryBundle:
    return MemoryBundle(bundle.manifest, memory, bundle.preprocessing)


# --- what must not be saved


def test_numbers_that_are_not_finite_are_refused_before_anything_is_written(path: Path) -> None:
    example_bundle().save(path)
    before = path.read_bytes()
    memory = example_memory()
    diverged = memory.replace(memory.tensors() | {"bases": torch.full((4, 1, 4, 4), float("nan"))})
    with pytest.raises(InvalidBundle, match="the tensor 'bases' holds values that are not finite"):
        replaced(example_bundle(), diverged).save(path)
    assert path.read_bytes() == before


def test_a_full_disk_keeps_the_older_bundle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example_bundle().save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match=r"^example.safetensors could not be written: No space left on device$"):
        example_bundle(name="newer").save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_bundle_that_could_not_be_loaded_is_not_saved(path: Path) -> None:
    with pytest.raises(InvalidBundle, match="the file is larger than 100 bytes"):
        example_bundle().save(path, limits=FileLimits(file_bytes=100))
    assert not path.exists()


# --- what must not be loaded


def test_a_missing_file_raises_not_found(path: Path) -> None:
    with pytest.raises(NotFound, match=r"^there is no bundle file example.safetensors$"):
        MemoryBundle.load(path)


def test_a_folder_is_no_bundle(path: Path) -> None:
    path.mkdir()
    with pytest.raises(InvalidBundle, match=r"^example.safetensors: this is not an ordinary file$"):
        MemoryBundle.load(path)


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_without_waiting(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(InvalidBundle, match="this is not an ordinary file"):
        MemoryBundle.load(path)


def test_a_link_to_a_bundle_is_loaded(path: Path, tmp_path: Path) -> None:
    example_bundle().save(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    assert MemoryBundle.load(path).manifest.name == "example"


def test_a_link_in_a_circle_is_no_bundle(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(InvalidBundle, match=r"^example.safetensors: the file cannot be read \(Too many levels"):
        MemoryBundle.load(path)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (FileLimits(file_bytes=1000), "the file is larger than 1000 bytes"),
        (FileLimits(header_bytes=500), r"the header claims more than 500 bytes"),
        (FileLimits(numbers=87), "the tensors hold 90 numbers, more than 87"),
        (FileLimits(numbers=255), "recalling takes 4 items of 1x8x8 at once, more than 255 numbers"),
    ],
)
def test_files_beyond_the_limits_are_refused(limits: FileLimits, sentence: str, path: Path) -> None:
    example_bundle().save(path)
    with pytest.raises(InvalidBundle, match=f"^example.safetensors: {sentence}$"):
        MemoryBundle.load(path, limits=limits)


def test_one_flipped_bit_is_noticed_if_the_digest_is_known(path: Path) -> None:
    saved = example_bundle().save(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert MemoryBundle.load(path).sha256 != saved.sha256, "a valid bundle, but not the one that was meant"
    with pytest.raises(InvalidBundle, match=f"sha256 is [0-9a-f]{{64}}, not the expected {saved.sha256}$"):
        MemoryBundle.load(path, expected_sha256=saved.sha256)


def test_a_digest_may_be_spelled_in_capitals(path: Path) -> None:
    digest = str(example_bundle().save(path).sha256)
    assert MemoryBundle.load(path, expected_sha256=digest.upper()).sha256 == digest


def test_a_bundle_cut_off_anywhere_is_refused() -> None:
    data = example_bundle().to_bytes()
    for length in range(len(data)):
        with pytest.raises(InvalidBundle):
            MemoryBundle.from_bytes(data[:length])


def test_a_damaged_byte_anywhere_is_refused_or_harmless() -> None:
    """Never another exception, and never a memory that recalls something that is not finite."""
    data = example_bundle().to_bytes()
    refused = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x41
        try:
            bundle = MemoryBundle.from_bytes(bytes(damaged))
        except RecallError as error:
            assert isinstance(error, InvalidBundle) and str(error).isprintable()
            refused += 1
        else:
            assert bundle.memory.items(torch.eye(bundle.memory.query_size)).isfinite().all()
    assert refused > len(data) // 4


# --- what must not be put together


def test_tensors_of_another_memory_kind_are_refused() -> None:
    with pytest.raises(InvalidBundle, match="describes a memory addressed_bases .*, but the tensors make stored_items"):
        replaced(example_bundle(), StoredItems(torch.zeros(3, 2, 1, 8, 8)))


def test_another_preprocessing_is_refused() -> None:
    bundle = example_bundle()
    with pytest.raises(InvalidBundle, match="names the preprocessing 'standardise', but the tensors are of 'zca'"):
        MemoryBundle(bundle.manifest, bundle.memory, ZCA.fit(torch.eye(64).view(64, 1, 8, 8)))


def test_preprocessing_of_other_images_is_refused() -> None:
    bundle = example_bundle()
    with pytest.raises(InvalidBundle, match=r"not made for images of \[1, 8, 8\]"):
        MemoryBundle(bundle.manifest, bundle.memory, example_preprocessing(channels=3))


def test_decoders_that_are_wide_on_the_way_to_an_image_are_refused(path: Path) -> None:
    decoders = initial_decoders(DecoderShape(1, 1, 32, 1), torch.Generator().manual_seed(0))
    wide, preprocessing = (
        LatentCodes(torch.zeros(3, 1, 1, 10, 10), decoders, height=40, width=40),
        example_preprocessing(),
    )
    budget = Budget(images_per_class=10, numbers_stored=wide.stored_numbers(), dataset_bytes=64_000)
    manifest = example_manifest(wide, preprocessing, budget=budget)
    MemoryBundle(manifest, wide, preprocessing).save(path)
    assert MemoryBundle.load(path).memory.rows == 1
    with pytest.raises(InvalidBundle, match="recalling takes 3 items of 1x40x40 at once, more than 100000 numbers"):
        MemoryBundle.load(path, limits=FileLimits(numbers=100_000))
