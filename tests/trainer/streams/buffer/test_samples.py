"""The buffer's samples: never more numbers than the capacity, and the same probability for every sample."""

from __future__ import annotations

import pytest
import torch

from tests.tolerances import assert_close
from trainer.data.enlargement import Enlargement
from trainer.streams.buffer.reservoir import AbstractSamples, Reservoir
from trainer.streams.buffer.samples import CodedSamples

SHAPE = (1, 8, 8)
FREE = 900


def make(kind: str, free: int = FREE, seed: int = 0, directions: int = 20, least: int = 5) -> AbstractSamples:
    generator = torch.Generator().manual_seed(seed)
    if kind == "raw":
        return Reservoir(free // 64, SHAPE, generator)
    plane = Enlargement.of(kind, 8, 8)  # type: ignore[arg-type]
    return CodedSamples(free, SHAPE, generator, plane, directions, least)


def pictures(count: int, rank: int, seed: int = 1) -> torch.Tensor:
    """Of `rank` directions within what half resolution can show."""
    generator = torch.Generator().manual_seed(seed)
    half = Enlargement.from_half(8, 8)
    grid = torch.randn(count, rank, generator=generator) @ torch.randn(rank, 16, generator=generator)
    return half.rows @ grid.view(count, 1, 4, 4) @ half.columns.T


KINDS = ["raw", "half", "full"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("free", [0, 10, 63, 64, 70, 200, 900])
def test_the_reservoir_never_exceeds_its_free_numbers(kind: str, free: int) -> None:
    samples = make(kind, free)
    for start in range(0, 200, 10):
        samples.offer(pictures(10, 16, seed=start), torch.arange(10) % 3)
        assert samples.numbers() <= free
        assert samples.draw(1_000)[0].shape == (len(samples), *SHAPE)
    assert samples.numbers() == sum(
        value.numel() for name, value in samples.tensors().items() if name in ("values", "weighted")
    )


@pytest.mark.parametrize("kind", ["half", "full"])
def test_coefficients_reconstruct_pictures_while_directions_change(kind: str) -> None:
    samples, shown = make(kind, 3_000), pictures(40, 4)
    for start in range(0, 40, 10):
        samples.offer(shown[start : start + 10], torch.arange(start, start + 10))
    images, labels = samples.draw(40)
    assert sorted(labels.tolist()) == list(range(40))
    assert_close(images, shown[labels], terms=64)


def test_coefficients_allow_many_more_samples_than_pictures() -> None:
    samples = {kind: make(kind, directions=6) for kind in ("raw", "half")}
    for start in range(0, 200, 10):
        for kept in samples.values():
            kept.offer(pictures(10, 6, seed=start), torch.arange(10) % 3)
    assert len(samples["raw"]) == FREE // 64
    assert len(samples["half"]) == (FREE - 6 * 16) // 6


@pytest.mark.parametrize("kind", KINDS)
def test_restored_samples_continue_with_the_same_bits(kind: str) -> None:
    one, other = make(kind), make(kind)
    one.offer(pictures(30, 16), torch.arange(30))
    other.restore(one.tensors())
    for kept in (one, other):
        reservoir = kept if isinstance(kept, Reservoir) else kept._kept  # type: ignore[attr-defined]
        reservoir._generator = torch.Generator().manual_seed(5)
        kept.offer(pictures(30, 16, seed=2), torch.arange(30))
    for mine, theirs in zip(one.draw(20), other.draw(20), strict=True):
        assert torch.equal(mine, theirs)


def test_every_sample_is_kept_with_the_same_probability() -> None:
    counts = torch.zeros(30)
    generator = torch.Generator().manual_seed(0)
    for _ in range(1_000):
        reservoir = Reservoir(6, (1,), generator)
        for start in range(0, 30, 7):
            part = torch.arange(start, min(start + 7, 30))
            reservoir.offer(part[:, None].float(), part)
        assert torch.equal(reservoir.values.flatten().long(), reservoir.labels)
        counts[reservoir.labels] += 1
    assert counts.sum() == 6_000
    assert 150 < counts.min() <= counts.max() < 250  # 200 expected, four deviations of 12.6


def test_a_reservoir_of_another_kind_is_refused() -> None:
    reservoir = Reservoir(2, (3,), torch.Generator())
    with pytest.raises(ValueError, match="are not the samples of this reservoir"):
        reservoir.restore({"values": torch.zeros(2, 4), "labels": torch.zeros(2), "seen": torch.tensor(2)})
    with pytest.raises(ValueError, match="must be 0 or more"):
        Reservoir(-1, (3,), torch.Generator())
