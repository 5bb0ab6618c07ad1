"""Views of a memory: bases as pictures, and similarity of labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import AddressedBases
from recall_server.core.preprocessing import ZCA
from recall_server.core.reports.inspection import (
    DECIMALS,
    MOST_COMPARED,
    displayed_bases,
    has_bases,
    has_similarity,
    sheet_rows,
    similarity,
)
from recall_server.errors import InvalidRequest, NotFound, UnknownLabel
from recall_server.library.library import Library
from tests.recall_server.bundle_examples import example_bundle, example_manifest, example_memory, example_preprocessing
from tests.tolerances import assert_close


def bundle_of(bases: torch.Tensor, addressing: torch.Tensor) -> MemoryBundle:
    memory = AddressedBases(bases, addressing, 8, 8)
    return MemoryBundle(example_manifest(memory, example_preprocessing()), memory, example_preprocessing())


def test_each_basis_is_stretched_to_its_own_range_at_the_size_that_is_stored() -> None:
    bundle = example_bundle()
    shown = displayed_bases(bundle)
    assert shown.shape == (4, 1, 4, 4)
    assert shown.dtype == np.float32
    assert np.array_equal(shown.min(axis=(1, 2, 3)), np.zeros(4))
    assert np.array_equal(shown.max(axis=(1, 2, 3)), np.ones(4))
    stored = bundle.memory.tensors()["bases"].numpy()
    for basis, seen in zip(stored, shown, strict=True):
        assert_close(float(np.corrcoef(basis.ravel(), seen.ravel())[0, 1]), 1.0, terms=16, dtype=torch.float32)


def test_a_basis_that_is_the_same_everywhere_is_grey() -> None:
    bases = torch.cat([torch.full((1, 1, 4, 4), 3.0), torch.zeros(1, 1, 4, 4), torch.rand(1, 1, 4, 4)])
    shown = displayed_bases(bundle_of(bases, torch.ones(1, 3, 3)))
    assert np.array_equal(shown[:2], np.full((2, 1, 4, 4), 0.5, dtype=np.float32))


def test_whitened_bases_are_shown_in_pixel_space() -> None:
    """Whitening amplifies what is rare in pictures: in pixel space a basis is smoother than what is stored."""
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(200, 1, 3, 3, generator=generator), size=8, mode="bilinear")
    whitening = ZCA.fit(smooth, ridge=0.01)
    memory = example_memory()
    bundle = MemoryBundle(example_manifest(memory, whitening), memory, whitening)
    shown = displayed_bases(bundle)
    assert shown.shape == (4, 1, 4, 4)
    assert (shown.min(), shown.max()) == (0, 1)

    def roughness(images: np.ndarray) -> float:
        return float(np.abs(np.diff(images, axis=3)).mean() / images.std())

    assert roughness(shown) < 0.8 * roughness(memory.bases.numpy())


def test_many_bases_are_shown_in_rows_of_eight() -> None:
    rows = sheet_rows(np.zeros((20, 1, 4, 4), dtype=np.float32))
    assert [(name, len(images)) for name, images in rows] == [
        ("bases from 0", 8),
        ("bases from 8", 8),
        ("bases from 16", 4),
    ]


def test_labels_with_proportional_coefficients_have_similarity_one() -> None:
    addressing = torch.tensor([[[1.0, 0, 0], [4, 0, 0], [0, 3, 4]], [[1.0, 0, 0], [0, 0, 0], [0, 3, 4]]])
    table = similarity(bundle_of(torch.rand(3, 1, 4, 4), addressing), ["class 0", "class 1", "class 2"])
    assert table == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_the_coefficients_are_averaged_over_the_rows_before_they_are_compared() -> None:
    """Rows that point away from each other cancel: the cosine of the mean is not the mean of the cosines."""
    addressing = torch.tensor([[[3.0, 1], [0, 1]], [[-3.0, 1], [0, 1]]])
    assert similarity(bundle_of(torch.rand(2, 1, 4, 4), addressing), ["class 0", "class 1"])[0][1] == 1


def test_the_table_is_symmetric_with_ones_on_the_diagonal_and_in_the_order_asked() -> None:
    memory = example_memory(labels=7, bases=5)
    bundle = MemoryBundle(example_manifest(memory, example_preprocessing()), memory, example_preprocessing())
    labels = list(bundle.labels)
    table = np.array(similarity(bundle, labels))
    assert np.array_equal(table, table.T)
    assert np.array_equal(np.diag(table), np.ones(7))
    assert np.abs(table).max() <= 1
    assert np.unique(table).size > 10
    some = np.array(similarity(bundle, [labels[5], labels[2]]))
    assert some[0, 1] == pytest.approx(table[5, 2], abs=1.5 * 10**-DECIMALS)


def test_a_label_without_coefficients_has_similarity_zero() -> None:
    addressing = torch.tensor([[[0.0, 0], [1, 2]]])
    assert similarity(bundle_of(torch.rand(2, 1, 4, 4), addressing), ["class 0", "class 1"]) == [[1, 0], [0, 1]]


def test_a_memory_without_bases_says_so(library: Library) -> None:
    pixels, pictures, based = (library.get(name).bundle for name in ("columns", "columns-images", "places"))
    assert (has_bases(pixels), has_bases(based)) == (False, True)
    assert (has_similarity(pixels), has_similarity(pictures), has_similarity(based)) == (False, False, True)
    with pytest.raises(NotFound, match="the memory 'columns' has no bases: it is of the kind stored_items"):
        displayed_bases(pixels)
    with pytest.raises(NotFound, match="is of the kind stored_items, so its labels have no coefficients"):
        similarity(pixels, list(pixels.labels))
    with pytest.raises(NotFound, match="'columns-images' is addressed by pictures, so its labels have no coeff"):
        similarity(pictures, list(pictures.labels))


def test_labels_that_cannot_be_compared_are_refused(library: Library) -> None:
    bundle = library.get("places").bundle
    with pytest.raises(UnknownLabel, match="'fra'; did you mean 'far'"):
        similarity(bundle, ["fra"])
    with pytest.raises(InvalidRequest, match=f"more than the {MOST_COMPARED} that can be compared at once"):
        similarity(bundle, ["far"] * (MOST_COMPARED + 1))
