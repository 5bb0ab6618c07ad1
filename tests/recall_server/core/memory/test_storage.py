"""How numbers are stored: smaller files that recall nearly the same, and that saving again does not change."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import safetensors.torch
import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import MeasuredAccuracy
from recall_server.core.memory import (
    AbstractMemory,
    AddressedBases,
    Hallucinators,
    LatentCodes,
    Storage,
    StoredItems,
)
from recall_server.core.memory.decoded import DecoderShape, initial_decoders
from recall_server.core.memory.storage import dequantise, fake_quantise, quantise
from recall_server.core.preprocessing import Projected
from recall_server.errors import InvalidBundle
from tests.hostile_bundles.draft import build
from tests.hostile_bundles.storages import ADDRESSING, SOUND
from tests.recall_server.bundle_examples import example_manifest, example_memory, example_preprocessing
from tests.tolerances import assert_close, rounding

STORAGES: tuple[Storage, ...] = get_args(Storage)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixels() -> StoredItems:
    return StoredItems(random(3, 2, 1, 8, 8, seed=1))


def uneven() -> AddressedBases:
    """Bases and coefficients of every size that a memory may hold, and a basis of nothing."""
    sizes = torch.tensor([0.0, 1e-38, 1e-20, 1.0, 3e5])
    bases = random(5, 1, 4, 4, seed=2).clamp(-3, 3) * sizes.view(5, 1, 1, 1)
    return AddressedBases(bases, random(2, 3, 5, seed=3) * sizes.flip(0).clamp(max=1.0), 8, 8)


def latent_codes() -> LatentCodes:
    decoders = initial_decoders(DecoderShape(2, 3, 4, 1), torch.Generator().manual_seed(4))
    return LatentCodes(random(3, 2, 3, 2, 2, seed=5), decoders, height=8, width=8)


def hallucinators() -> Hallucinators:
    """One base of each of three labels, and two hallucinators."""
    shapes = (3, 1, 1, 8, 8), (2, 1, 1, 3, 3), (2, 1), (2, 1, 6, 6), (2, 1, 6, 6), (2, 1, 1, 3, 3), (2, 1)
    return Hallucinators(*(random(*shape, seed=10 + number) for number, shape in enumerate(shapes)))


MEMORIES = {
    "addressed_bases": example_memory(),
    "pixels": pixels(),
    "uneven": uneven(),
    "latent_codes": latent_codes(),
    "hallucinators": hallucinators(),
}
every_memory = pytest.mark.parametrize("memory", MEMORIES.values(), ids=list(MEMORIES))
every_storage = pytest.mark.parametrize("storage", STORAGES)


def bundle_of(memory: AbstractMemory, storage: Storage) -> MemoryBundle:
    preprocessing = example_preprocessing()
    return MemoryBundle(example_manifest(memory, preprocessing), memory, preprocessing, storage)


@every_storage
@every_memory
def test_a_loaded_bundle_is_saved_as_the_same_bytes(memory: AbstractMemory, storage: Storage, tmp_path: Path) -> None:
    saved = bundle_of(memory, storage).save(tmp_path / "one.safetensors")
    loaded = MemoryBundle.load(tmp_path / "one.safetensors", expected_sha256=saved.sha256)
    assert loaded.storage == storage
    assert loaded.to_bytes() == (tmp_path / "one.safetensors").read_bytes() == bundle_of(memory, storage).to_bytes()
    for name, tensor in loaded.memory.tensors().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, saved.memory.tensors()[name])
        assert torch.equal(tensor, fake_quantise(memory, storage).tensors()[name])


@pytest.mark.parametrize(
    ("storage", "dtype", "size"), [("float32", "F32", 4), ("bfloat16", "BF16", 2), ("int8", "I8", 1)]
)
def test_the_file_holds_numbers_of_that_size(storage: Storage, dtype: str, size: int, tmp_path: Path) -> None:
    memory = example_memory(rows=40, bases=16, side=16)
    bundle_of(memory, storage).save(path := tmp_path / "memory.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in ("bases", "addressing")} == {dtype}
        assert file.get_slice("preprocessing.mean").get_dtype() == "F32"
    saved = path.stat().st_size - len(bundle_of(memory, "float32").to_bytes())
    assert saved == pytest.approx((size - 4) * memory.stored_numbers(), abs=500), "but for scales and their names"


@every_memory
def test_int8_rounds_by_at_most_half_a_scale(memory: AbstractMemory) -> None:
    for name, tensor in memory.tensors().items():
        others = [index for index in range(tensor.ndim) if index not in memory.quantisation_axes(name)]
        largest = tensor.abs().amax(dim=others, keepdim=True).double()
        error = (fake_quantise(memory, "int8").tensors()[name] - tensor).abs().double()
        half = (largest / 127 * (1 + 2**-16)).clamp(min=2**-100) / 2
        assert bool((error <= half + rounding(torch.float32) * largest).all())


@every_storage
def test_gradients_pass_straight_through_rounding(storage: Storage) -> None:
    memory = example_memory()
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in memory.tensors().items()}
    result = fake_quantise(memory.replace(leaves), storage)
    sum((tensor * tensor.detach().sign()).sum() for tensor in result.tensors().values()).backward()
    for name, leaf in leaves.items():
        assert torch.equal(leaf.grad, result.tensors()[name].detach().sign())


def test_a_memory_in_int8_recalls_nearly_the_same() -> None:
    memory = example_memory(rows=8, bases=12, side=16)
    queries = torch.eye(3)
    before, after = memory.items(queries), fake_quantise(memory, "int8").items(queries)
    step = 1 / 127  # of the largest number, which is some three times the root mean square; two tensors are rounded
    assert (after - before).square().mean() < 2 * 3**2 * step**2 / 12 * before.square().mean()


def test_recording_an_accuracy_leaves_the_stored_numbers_as_they_are(tmp_path: Path) -> None:
    saved = bundle_of(uneven(), "int8").save(tmp_path / "one.safetensors")
    row = MeasuredAccuracy(network="n", protocol="p", runs=1, mean=0.5, spread=0, data="d")
    again = saved.with_accuracy([row]).save(tmp_path / "one.safetensors")
    assert again.storage == "int8"
    for name, tensor in again.memory.tensors().items():
        assert torch.equal(tensor, saved.memory.tensors()[name])


def test_a_projection_is_onto_the_bases_as_they_are_stored(tmp_path: Path) -> None:
    memory = example_memory()
    preprocessing = Projected.onto(memory.span(), example_preprocessing())
    bundle = MemoryBundle(example_manifest(memory, preprocessing), memory, preprocessing, "int8")
    loaded = bundle.save(tmp_path / "projected.safetensors")
    assert isinstance(loaded.memory, AddressedBases)
    assert isinstance(loaded.preprocessing, Projected)
    span = loaded.preprocessing.directions
    flat = loaded.memory.span().flatten(1)
    assert_close(flat @ span.T @ span, flat, terms=2 * flat.shape[1])


def test_the_bundle_behind_the_hostile_storages_is_valid() -> None:
    """Written by hand, from the specification."""
    bundle = MemoryBundle.from_bytes(build(tensors=SOUND))
    assert bundle.storage == "int8"
    assert isinstance(bundle.memory, AddressedBases)
    assert bundle.memory.bases.flatten().tolist() == [63.5, -63.5, 0, 2.5, 0.125, 0.25, 0.375, 15.875]
    columns = torch.tensor(ADDRESSING, dtype=torch.float32).view(3, 2, 2) * torch.tensor([0.25, 0.5])
    assert torch.equal(bundle.memory.addressing, columns)


def test_a_memory_stored_partly_in_bfloat16_is_refused() -> None:
    """Such a file is read, as it always was, and saved as float32."""
    tensors = quantise(example_memory(), "float32")
    tensors["bases"] = tensors["bases"].bfloat16()
    values, storage = dequantise(tensors, AddressedBases)
    assert storage == "float32"
    assert values["bases"].dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@every_storage
def test_a_memory_that_has_diverged_is_refused_in_every_storage(storage: Storage, value: float, tmp_path: Path) -> None:
    memory = example_memory()
    memory.bases[1, 0, 0, 0] = value
    with pytest.raises(InvalidBundle, match="'bases'"):
        bundle_of(memory, storage).save(tmp_path / "diverged.safetensors")
    assert not list(tmp_path.iterdir())
