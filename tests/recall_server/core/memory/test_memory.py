"""Memories recall what the paper's formula says, are differentiable, and count what they store."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from recall_server.core.memory import MEMORIES, AbstractMemory, AddressedBases, LazyImages, Pixels
from recall_server.core.memory.addressed_bases import largest_rows
from tests.tolerances import assert_close


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def addressed_bases(*, height: int = 6, width: int = 4) -> AddressedBases:
    """Five bases of 3x2 with two channels, three rows, queries of four numbers."""
    return AddressedBases(
        bases=random(5, 2, 3, 2, seed=1), addressing=random(3, 4, 5, seed=2), height=height, width=width
    )


def pixels() -> Pixels:
    """Queries of four numbers, three rows, images of 2x6x4."""
    return Pixels(images=random(4, 3, 2, 6, 4, seed=3))


def small_pixels() -> Pixels:
    """The same, stored at half of that size."""
    return Pixels(images=random(4, 3, 2, 3, 2, seed=3), height=6, width=4)


TERMS = 4 * 5 * 4  # labels, bases, and the neighbours that an enlarged pixel averages
EVERY_KIND = [addressed_bases(), pixels(), small_pixels()]
every_kind = pytest.mark.parametrize("memory", EVERY_KIND, ids=["addressed_bases", "pixels", "small pixels"])


def test_every_kind_is_tested_here() -> None:
    assert {memory.kind: type(memory) for memory in EVERY_KIND} == MEMORIES


@every_kind
def test_some_rows_alone_recall_what_they_recall_among_all(memory: AbstractMemory) -> None:
    queries = random(2, 4, seed=5)
    some = memory.select_rows(torch.tensor([2, 0])).recall(queries)
    assert_close(some, memory.recall(queries)[:, [2, 0]], terms=TERMS)


@every_kind
def test_what_is_recalled_lazily_is_what_is_recalled(memory: AbstractMemory) -> None:
    queries = random(2, 4, seed=5)
    recalled, lazily = memory.recall(queries), memory.recall_lazily(queries)
    assert lazily.shape == recalled.shape
    assert lazily.ndim == 5
    chosen = torch.tensor([[2, 0], [1, 1]])
    both = torch.arange(2).unsqueeze(1)
    assert_close(lazily[both, chosen], recalled[both, chosen], terms=TERMS)


def test_many_rows_of_few_bases_take_no_memory_before_they_are_looked_at() -> None:
    generator = torch.Generator().manual_seed(0)
    bases, addressing = torch.randn(2, 3, 16, 16, generator=generator), torch.randn(300, 10, 2, generator=generator)
    lazily = AddressedBases(bases, addressing, height=32, width=32).recall_lazily(torch.eye(10))
    assert isinstance(lazily, LazyImages)
    assert lazily.shape == (10, 300, 3, 32, 32)
    assert lazily.coefficients.numel() + lazily.images.numel() < lazily.shape.numel() / 500
    assert lazily.finite()
    assert not LazyImages(lazily.coefficients, lazily.images / 0).finite()


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
    recalled = memory.recall(queries)
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
    memory = pixels()
    recalled = memory.recall(torch.eye(4, dtype=torch.float64)[[2, 0]])
    assert torch.equal(recalled, memory.images[[2, 0]])


def test_small_pixels_recall_the_stored_images_enlarged() -> None:
    memory = small_pixels()
    recalled = memory.recall(torch.eye(4, dtype=torch.float64)[[2]])
    assert memory.stored_numbers() == pixels().stored_numbers() / 4
    for row in range(3):
        for channel in range(2):
            expected = upsampled(memory.images[2, row, channel], 6, 4)
            assert_close(recalled[0, row, channel], expected, terms=TERMS)


@every_kind
def test_a_mixture_of_labels_recalls_the_mixture_of_their_images(memory: AbstractMemory) -> None:
    labels = torch.eye(4, dtype=torch.float64)
    mixed = memory.recall(0.3 * labels[:1] + 0.7 * labels[1:2])
    first, second = memory.recall(labels[:2])
    assert_close(mixed[0], 0.3 * first + 0.7 * second, terms=TERMS)


@every_kind
def test_a_query_recalls_the_same_alone_and_in_company(memory: AbstractMemory) -> None:
    queries = random(3, 4, seed=5)
    together = memory.recall(queries)
    for position in range(3):
        alone = memory.recall(queries[position : position + 1])[0]
        assert_close(together[position], alone, terms=TERMS)


@every_kind
def test_recall_is_differentiable_in_the_queries_and_in_every_stored_tensor(memory: AbstractMemory) -> None:
    names = list(memory.tensors())

    def recall(queries: Tensor, *stored: Tensor) -> Tensor:
        return memory.replace(dict(zip(names, stored, strict=True))).recall(queries)

    inputs = [random(2, 4, seed=6), *memory.tensors().values()]
    assert gradcheck(recall, [value.detach().clone().requires_grad_() for value in inputs], fast_mode=True)


@every_kind
def test_a_memory_rebuilt_from_its_tensors_recalls_the_same_bits(memory: AbstractMemory) -> None:
    rebuilt = type(memory).from_tensors(memory.tensors(), memory.geometry())
    queries = random(2, 4, seed=7)
    assert torch.equal(rebuilt.recall(queries), memory.recall(queries))
    assert rebuilt.geometry() == memory.geometry()


@every_kind
def test_a_memory_describes_what_it_recalls(memory: AbstractMemory) -> None:
    assert memory.query_size == 4
    assert memory.rows == 3
    assert memory.image_shape == (2, 6, 4)
    assert memory.recall(random(5, 4)).shape == (5, memory.rows, *memory.image_shape)


@every_kind
def test_recall_does_not_change_the_memory(memory: AbstractMemory) -> None:
    before = {name: tensor.clone() for name, tensor in memory.tensors().items()}
    memory.recall(random(2, 4)).mul_(0)
    assert all(torch.equal(before[name], tensor) for name, tensor in memory.tensors().items())


def test_stored_numbers_are_those_that_the_budget_counts() -> None:
    assert addressed_bases().stored_numbers() == 5 * 2 * 3 * 2 + 3 * 4 * 5
    assert pixels().stored_numbers() == 4 * 3 * 2 * 6 * 4


@pytest.mark.parametrize(
    ("bases", "addressing", "height", "width", "sentence"),
    [
        ((5, 3, 2), (3, 4, 5), 6, 4, r"bases must be \[K, C, h, w\] and addressing \[r, d_y, K\], not \[5, 3, 2\]"),
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


def test_pixels_refuse_images_without_rows() -> None:
    with pytest.raises(ValueError, match=r"images must be \[labels, rows, C, H, W\], not \[4, 2, 6, 4\]"):
        Pixels(images=random(4, 2, 6, 4))


def test_pixels_are_enlarged_to_a_whole_size_or_not_at_all() -> None:
    with pytest.raises(ValueError, match="give both or neither"):
        Pixels(images=random(4, 3, 2, 3, 2), height=6)
    with pytest.raises(ValueError, match="stored images of 6x4 are larger than the images of 5x4"):
        Pixels(images=random(4, 3, 2, 6, 4), height=5, width=4)


GREY, COLOUR, TINY = 28 * 28, 3 * 32 * 32, 3 * 64 * 64


@pytest.mark.parametrize(
    ("images_per_class", "classes", "image_numbers", "bases", "rows"),
    [
        (1, 10, GREY, 8, 78),
        (1, 10, GREY, 16, 29),
        (1, 10, GREY, 32, 4),
        (10, 10, GREY, 64, 102),
        (50, 10, GREY, 1024, 18),
        (1, 10, COLOUR, 16, 115),
        (10, 10, COLOUR, 64, 403),
        (50, 10, COLOUR, 512, 223),
        (1, 100, COLOUR, 256, 4),
        (10, 100, COLOUR, 1024, 22),
        (1, 200, TINY, 64, 176),
    ],
)
def test_the_budget_equation_gives_the_rows_of_the_published_settings(
    images_per_class: int, classes: int, image_numbers: int, bases: int, rows: int
) -> None:
    """K * d/4 + C * r * K <= N * C * d; CIFAR-10 at one image per class with 16 bases is the released command."""
    numbers = images_per_class * classes * image_numbers
    assert largest_rows(numbers, query_size=classes, base_numbers=image_numbers // 4, bases=bases) == rows


def test_bases_that_do_not_fit_the_budget_leave_no_rows() -> None:
    assert largest_rows(10 * GREY, query_size=10, base_numbers=GREY // 4, bases=40) == 0
    assert largest_rows(10 * GREY, query_size=10, base_numbers=GREY // 4, bases=64) < 0
