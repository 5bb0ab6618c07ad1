"""Memories recall what the paper's formula says, are differentiable, and count what they store."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from recall_server.core.memory import (
    LINEAR,
    MEMORIES,
    AbstractMemory,
    AddressedBases,
    DescribedClasses,
    Hallucinators,
    ImageGenerator,
    LatentCodes,
    LazyItems,
    MultiFormation,
    SparseBases,
    StoredItems,
    Targets,
)
from recall_server.core.memory.decoded import Decoders, DecoderShape, initial_decoders
from recall_server.core.memory.storage import Storage, fake_quantise, quantise
from tests.tolerances import assert_close


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def addressed_bases(*, height: int = 6, width: int = 4) -> AddressedBases:
    """Five bases of 3x2 with two channels, three rows, queries of four numbers."""
    return AddressedBases(
        bases=random(5, 2, 3, 2, seed=1), addressing=random(3, 4, 5, seed=2), height=height, width=width
    )


def stored_items() -> StoredItems:
    """Queries of four numbers, three rows, images of 2x6x4."""
    return StoredItems(random(4, 3, 2, 6, 4, seed=3))


def small_items() -> StoredItems:
    """The same, stored at half of that size."""
    return StoredItems(random(4, 3, 2, 3, 2, seed=3), height=6, width=4)


def formations() -> MultiFormation:
    """Queries of four numbers, one image of 2x6x4 in cells of 3x2: four rows."""
    return MultiFormation(random(4, 1, 2, 6, 4, seed=3), factor=2)


def decoders(count: int) -> Decoders:
    """Of codes with two channels, through three filters, to images with two channels."""
    return initial_decoders(DecoderShape(count, 2, 3, 2), torch.Generator().manual_seed(4))


def latent_codes() -> LatentCodes:
    """Queries of four numbers, two codes of 2x2x1 and two decoders: four rows, images of 2x6x4."""
    doubled = Decoders.from_tensors({name: value.double() for name, value in decoders(2).tensors().items()})
    return LatentCodes(random(4, 2, 2, 2, 1, seed=3), doubled, height=6, width=4)


def image_generator() -> ImageGenerator:
    """Queries of four numbers, three vectors of noise of five numbers, images of 2x6x4."""
    doubled = Decoders.from_tensors({name: value.double() for name, value in decoders(1).tensors().items()})
    return ImageGenerator(
        random(3, 5, seed=1), random(5, 4, seed=2), random(4, 4, seed=3), random(1, 4, seed=5), doubled, 6, 4
    )


def hallucinators() -> Hallucinators:
    """Queries of four numbers, two bases of one channel and 6x4, two hallucinators with two channels: four rows."""
    shapes = (4, 2, 1, 6, 4), (2, 2, 1, 3, 3), (2, 2), (2, 2, 4, 2), (2, 2, 4, 2), (2, 2, 2, 3, 3), (2, 2)
    return Hallucinators(*(random(*shape, seed=10 + number) for number, shape in enumerate(shapes)))


TERMS = 4 * 5 * 4  # labels, bases, and the neighbours that an enlarged pixel averages


def vectors() -> list[AbstractMemory]:
    """Queries of four numbers, three rows, items of seven features."""
    return [
        StoredItems(random(4, 3, 7, seed=3)),
        AddressedBases(random(5, 7, seed=1), random(3, 4, 5, seed=2)),
    ]


def with_targets() -> list[AbstractMemory]:
    """A memory with a soft target for each label, and one with an unbounded target for each item."""
    return [
        replace(addressed_bases(), targets=Targets("soft", random(4, 1, 4, seed=8))),
        replace(stored_items(), targets=Targets("unbounded", random(4, 3, 4, seed=9))),
    ]


EVERY_KIND = [
    addressed_bases(), stored_items(), small_items(), formations(), latent_codes(), image_generator(), hallucinators(),
    *vectors(), *with_targets(),
]  # fmt: skip


def name_of(memory: AbstractMemory) -> str:
    return f"{memory.kind} {memory.item_shape} {memory.targets.form}"


every_kind = pytest.mark.parametrize("memory", EVERY_KIND, ids=name_of)
linear_kinds = pytest.mark.parametrize(
    "memory", [memory for memory in EVERY_KIND if LINEAR in memory.traits], ids=name_of
)


def test_every_kind_is_tested_here() -> None:
    assert {memory.kind: type(memory) for memory in [*EVERY_KIND, described(), sparse()]} == MEMORIES


@every_kind
def test_selected_rows_recall_the_same_as_among_all_rows(memory: AbstractMemory) -> None:
    queries = random(2, 4, seed=5)
    some = memory.items(queries, torch.tensor([[2, 0]]).expand(2, -1))
    assert_close(some, memory.items(queries)[:, [2, 0]], terms=TERMS)


@every_kind
def test_lazy_recall_equals_recall(memory: AbstractMemory) -> None:
    queries = random(2, 4, seed=5)
    recalled, lazily = memory.items(queries), memory.recall_lazily(queries).items
    assert lazily.shape == recalled.shape
    assert lazily.ndim == 2 + len(memory.item_shape)
    chosen = torch.tensor([[2, 0], [1, 1]])
    both = torch.arange(2).unsqueeze(1)
    assert_close(lazily[both, chosen], recalled[both, chosen], terms=TERMS)


def test_lazy_recall_allocates_nothing_before_indexing() -> None:
    generator = torch.Generator().manual_seed(0)
    bases, addressing = torch.randn(2, 3, 16, 16, generator=generator), torch.randn(300, 10, 2, generator=generator)
    lazily = AddressedBases(bases, addressing, height=32, width=32).recall_lazily(torch.eye(10)).items
    assert isinstance(lazily, LazyItems)
    assert lazily.shape == (10, 300, 3, 32, 32)
    assert lazily.coefficients.numel() + lazily.bases.numel() < lazily.shape.numel() / 500
    assert lazily.finite()
    assert not LazyItems(lazily.coefficients, lazily.bases / 0).finite()


def upsampled(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear interpolation of [h, w] pixel by pixel: pixels are squares with values at their centres."""

    def neighbours(position: int, size: int, stored: int) -> list[tuple[int, float]]:
        centre = min(max((position + 0.5) * stored / size - 0.5, 0.0), stored - 1.0)
        lower = math.floor(centre)
        return [(lower, 1 - (centre - lower)), (min(lower + 1, stored - 1), centre - lower)]

    result = torch.zeros(height, width, dtype=image.dtype)
    for row in range(height):
        for column in range(width):
            for y, weight_y in neighbours(row, height, image.shape[0]):
                for x, weight_x in neighbours(column, width, image.shape[1]):
                    result[row, column] += weight_y * weight_x * image[y, x]
    return result


@pytest.mark.parametrize(("height", "width"), [(3, 2), (6, 4), (7, 5), (9, 2)])
def test_addressed_bases_recall_the_papers_formula(height: int, width: int) -> None:
    """x_i = (y A_i) B (paper, section 4), upsampled: number by number."""
    memory = addressed_bases(height=height, width=width)
    queries = random(2, 4, seed=4)
    recalled = memory.items(queries)
    assert recalled.shape == (2, 3, 2, height, width)
    for query in range(2):
        for row in range(3):
            coefficients = queries[query] @ memory.addressing[row]
            combined = sum(coefficients[k] * memory.bases[k] for k in range(5))
            assert isinstance(combined, Tensor)
            for channel in range(2):
                expected = upsampled(combined[channel], height, width)
                assert_close(recalled[query, row, channel], expected, terms=TERMS)


def test_pixels_recall_the_stored_images_of_a_label() -> None:
    memory = stored_items()
    recalled = memory.items(torch.eye(4, dtype=torch.float64)[[2, 0]])
    assert torch.equal(recalled, memory.stored[[2, 0]])


def test_small_pixels_recall_the_stored_images_enlarged() -> None:
    memory = small_items()
    recalled = memory.items(torch.eye(4, dtype=torch.float64)[[2]])
    assert memory.stored_numbers() == stored_items().stored_numbers() / 4
    for row in range(3):
        for channel in range(2):
            expected = upsampled(memory.stored[2, row, channel], 6, 4)
            assert_close(recalled[0, row, channel], expected, terms=TERMS)


def test_a_formation_recalls_the_cells_of_its_images_enlarged() -> None:
    memory = MultiFormation(random(4, 2, 2, 6, 4, seed=3), factor=2)
    recalled = memory.items(torch.eye(4, dtype=torch.float64)[[2]])
    assert recalled.shape == (1, 8, 2, 6, 4)
    assert memory.stored_numbers() == 2 * stored_items().stored_numbers() / 3
    for row, (image, down, right) in enumerate(itertools.product(range(2), range(2), range(2))):
        cell = memory.stored[2, image, :, 3 * down : 3 * down + 3, 2 * right : 2 * right + 2]
        for channel in range(2):
            assert_close(recalled[0, row, channel], upsampled(cell[channel], 6, 4), terms=TERMS)


def test_a_formation_of_smooth_images_recalls_them_in_order() -> None:
    flat = torch.arange(16.0).reshape(2, 8, 1, 1, 1).expand(2, 8, 1, 6, 4)
    assert torch.equal(MultiFormation.holding(flat, 2).items(torch.eye(2)), flat)
    assert MultiFormation.holding(flat, 2).stored.shape == (2, 2, 1, 6, 4)


@pytest.mark.parametrize(
    ("shape", "factor", "sentence"),
    [
        ((4, 3, 6), 2, r"images must be \[labels, images, C, H, W\], not \[4, 3, 6\]"),
        ((4, 3, 2, 6, 4), 3, "images of 6x4 cannot be cut into 3x3 equal cells"),
        ((4, 3, 2, 6, 4), 0, "images of 6x4 cannot be cut into 0x0 equal cells"),
    ],
)
def test_a_formation_refuses_images_that_cannot_be_cut_into_cells(
    shape: tuple[int, ...], factor: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        MultiFormation(random(*shape), factor=factor)


def test_hallucinators_recall_each_base_through_each_of_them() -> None:
    """Torch's own layers, one base and one hallucinator at a time."""
    memory = hallucinators()
    recalled = memory.items(torch.eye(4, dtype=torch.float64)[[2]])
    assert recalled.shape == (1, 4, 2, 6, 4)
    for row, (base, j) in enumerate(itertools.product(range(2), range(2))):
        encoded = torch.nn.functional.conv2d(memory.bases[2, base], memory.encoder[j], memory.encoder_bias[j])
        inner = memory.scale[j] * encoded + memory.shift[j]
        expected = torch.nn.functional.conv_transpose2d(inner, memory.decoder[j], memory.decoder_bias[j])
        assert_close(recalled[0, row], expected, terms=TERMS)
    assert memory.variants == 2
    assert stored_items().variants == 1


@linear_kinds
def test_a_mixture_of_labels_recalls_the_mixture_of_their_images(memory: AbstractMemory) -> None:
    labels = torch.eye(4, dtype=torch.float64)
    mixed = memory.items(0.3 * labels[:1] + 0.7 * labels[1:2])
    first, second = memory.items(labels[:2])
    assert_close(mixed[0], 0.3 * first + 0.7 * second, terms=TERMS)


@every_kind
def test_a_query_recalls_the_same_alone_and_among_others(memory: AbstractMemory) -> None:
    queries = random(3, 4, seed=5)
    together = memory.items(queries)
    for position in range(3):
        alone = memory.items(queries[position : position + 1])[0]
        assert_close(together[position], alone, terms=TERMS)


@every_kind
def test_recall_is_differentiable_in_the_queries_and_in_every_stored_tensor(memory: AbstractMemory) -> None:
    names = [name for name in memory.tensors() if name != "targets"]

    def recall(queries: Tensor, *stored: Tensor) -> Tensor:
        return memory.replace(dict(zip(names, stored, strict=True))).items(queries)

    inputs = [random(2, 4, seed=6), *(memory.tensors()[name] for name in names)]
    assert gradcheck(recall, [value.detach().clone().requires_grad_() for value in inputs], fast_mode=True)


@every_kind
def test_a_memory_rebuilt_from_its_tensors_recalls_the_same_bits(memory: AbstractMemory) -> None:
    rebuilt = type(memory).from_tensors(memory.tensors(), memory.settings())
    queries = random(2, 4, seed=7)
    assert torch.equal(rebuilt.items(queries), memory.items(queries))
    assert rebuilt.settings() == memory.settings()


@every_kind
def test_a_memory_describes_what_it_recalls(memory: AbstractMemory) -> None:
    assert memory.query_size == 4
    assert memory.rows == (4 if isinstance(memory, MultiFormation | LatentCodes | Hallucinators) else 3)
    assert memory.item_shape in {(2, 6, 4), (7,)}
    recalled = memory.recall(random(5, 4))
    assert recalled.items.shape == (5, memory.rows, *memory.item_shape)
    assert recalled.targets.shape in {(5, memory.rows, 5), (5, 1, 5)}


@every_kind
def test_recall_does_not_change_the_memory(memory: AbstractMemory) -> None:
    before = {name: tensor.clone() for name, tensor in memory.tensors().items()}
    memory.items(random(2, 4)).mul_(0)
    assert all(torch.equal(before[name], tensor) for name, tensor in memory.tensors().items())


def test_stored_numbers_are_counted_as_by_the_budget() -> None:
    assert addressed_bases().stored_numbers() == 5 * 2 * 3 * 2 + 3 * 4 * 5
    assert stored_items().stored_numbers() == 4 * 3 * 2 * 6 * 4


@pytest.mark.parametrize(
    ("bases", "addressing", "height", "width", "sentence"),
    [
        (
            (5, 3, 2),
            (3, 4, 5),
            6,
            4,
            r"bases must be \[K, C, h, w\] or \[K, D\] and addressing \[r, d_y, K\], not \[5, 3, 2\]",
        ),
        ((5, 2, 3, 2), (4, 5), 6, 4, r"not \[5, 2, 3, 2\] and \[4, 5\]"),
        ((5, 2, 3, 2), (3, 4, 6), 6, 4, "5 bases, but addressing combines 6"),
        ((5, 2, 3, 2), (3, 4, 5), 2, 4, "bases of 3x2 are larger than the images of 2x4"),
        ((5, 2, 3, 2), (3, 4, 5), 6, 1, "bases of 3x2 are larger than the images of 6x1"),
    ],
)
def test_addressed_bases_refuse_shapes_that_do_not_fit(
    bases: tuple[int, ...], addressing: tuple[int, ...], height: int, width: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        AddressedBases(bases=random(*bases), addressing=random(*addressing), height=height, width=width)


def test_stored_items_refuse_items_without_rows() -> None:
    with pytest.raises(ValueError, match=r"items must be \[labels, rows, C, h, w\] or .*, not \[4, 2, 6, 4\]"):
        StoredItems(random(4, 2, 6, 4))


def test_enlargement_needs_a_height_and_a_width_and_images() -> None:
    with pytest.raises(ValueError, match="give both or neither"):
        StoredItems(random(4, 3, 2, 3, 2), height=6)
    with pytest.raises(ValueError, match="stored images of 6x4 are larger than the images of 5x4"):
        StoredItems(random(4, 3, 2, 6, 4), height=5, width=4)
    with pytest.raises(ValueError, match="vectors have no height and width"):
        AddressedBases(random(5, 7), random(3, 4, 5), height=5, width=4)


def test_a_memory_of_vectors_has_no_image_shape() -> None:
    with pytest.raises(ValueError, match="recalls vectors of 7 features, not images"):
        vectors()[0].image_shape  # noqa: B018


def test_frozen_tensors_are_stored_but_not_learned() -> None:
    memory = replace(with_targets()[1], frozen=frozenset({"items"}))  # type: ignore[type-var]
    assert set(memory.tensors()) == {"items", "targets"}
    assert set(memory.learned()) == {"targets"}
    assert set(memory.replace(memory.learned()).learned()) == {"targets"}, "replacing tensors keeps what is frozen"


def described() -> DescribedClasses:
    """Queries of four numbers, five bases of seven features, two centres of each class."""
    centres, deviations = random(2, 4, 5, seed=3), random(4, 5, seed=4).abs()
    return DescribedClasses(random(5, 7, seed=1), random(4, 5, seed=2), centres, deviations)


def test_described_classes_recall_the_vectors_of_their_head() -> None:
    memory, queries = described(), random(3, 4, seed=6)
    assert (memory.rows, memory.query_size, memory.item_shape) == (1, 4, (7,))
    assert_close(memory.items(queries)[:, 0], queries @ memory.head @ memory.bases, terms=TERMS)
    assert torch.equal(memory.items(queries, torch.tensor([[0, 0]] * 3))[:, 1], memory.items(queries)[:, 0])
    typical = memory.typical(torch.eye(4, dtype=torch.float64)[[2, 0]])
    assert_close(typical, memory.centres[:, [2, 0]].transpose(0, 1) @ memory.bases, terms=TERMS)
    assert memory.stored_numbers() == 5 * (7 + 4 * 4)


def test_described_classes_are_rebuilt_from_their_tensors_and_settings() -> None:
    memory = described()
    rebuilt = DescribedClasses.from_tensors(memory.tensors(), memory.settings())
    assert all(torch.equal(rebuilt.tensors()[name], each) for name, each in memory.tensors().items())
    with pytest.raises(ValueError, match="have hard targets"):
        memory.with_targets(Targets("soft", random(4, 1, 4)))


def sparse() -> SparseBases:
    """Queries of four numbers, five bases at three of 240 features."""
    return SparseBases.at(torch.tensor([2, 107, 239]), random(5, 3, seed=1), random(4, 5, seed=2), 240)


def test_sparse_bases_recall_bases_that_are_zero_elsewhere() -> None:
    memory, queries = sparse(), random(3, 4, seed=6)
    whole = torch.zeros(5, 240, dtype=torch.float64)
    whole[:, [2, 107, 239]] = memory.bases
    assert_close(memory.items(queries)[:, 0], queries @ memory.addressing @ whole, terms=TERMS)
    assert torch.equal(memory.items(queries, torch.tensor([[0, 0]] * 3))[:, 1], memory.items(queries)[:, 0])
    assert (memory.rows, memory.query_size, memory.item_shape) == (1, 4, (240,))
    assert memory.stored_numbers() == 5 * (3 + 4) + 2 * 3, "a position counts as two numbers"
    assert sparse().settings() == {"targets": "hard", "features": 240}


def test_storage_moves_no_position_of_sparse_bases() -> None:
    places = torch.tensor([0, 99, 100, 4999, 5050, 9899, 9999])
    memory = SparseBases.at(places, random(2, 7).float(), random(3, 2).float(), 10_000)
    for storage in get_args(Storage):
        stored = fake_quantise(memory, storage)
        assert torch.equal(stored.places, places)
        again = quantise(stored, storage)
        assert all(torch.equal(again[name], each) for name, each in quantise(memory, storage).items())
        assert torch.equal(torch.nonzero(stored.items(torch.eye(3))[0, 0]).flatten(), places)


def test_sparse_bases_have_hard_targets() -> None:
    with pytest.raises(ValueError, match="sparse bases have hard targets"):
        sparse().with_targets(Targets("soft", random(4, 1, 4)))
