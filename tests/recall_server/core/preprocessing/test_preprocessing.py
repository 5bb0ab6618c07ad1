"""Preprocessings: pixel space to model space and back, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck

from recall_server.core.preprocessing import (
    PREPROCESSINGS,
    ZCA,
    AbstractPreprocessing,
    Projected,
    Spectral,
    Standardise,
)
from recall_server.core.preprocessing.statistics import CHUNK
from recall_server.errors import InvalidDataset
from tests.suite.needs import FASHION_MNIST, needs_fashion_mnist
from tests.tolerances import assert_close, rounding

SHAPE = (3, 4, 5)
NUMBERS = 3 * 4 * 5  # of an image, which a whitening or a projection sums up


def photographs(count: int = 400, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float64]:
    """Images of 0..1 whose neighbouring pixels and channels agree, as in photographs."""
    noise = np.random.default_rng(11).normal(size=(count, *shape))
    smooth = noise + np.roll(noise, 1, axis=3) + np.roll(noise, 1, axis=2) + 2 * noise.mean(axis=1, keepdims=True)
    return np.asarray(1 / (1 + np.exp(-smooth)))


def in_bytes(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray((images * 255).round(), dtype=np.uint8)


def batch(count: int = 6) -> Tensor:
    return torch.from_numpy(photographs(count)).float()


FITTED: list[AbstractPreprocessing] = [
    Standardise.fit(photographs()),
    ZCA.fit(photographs()),
    ZCA.fit(photographs(), directions=12),
    Spectral.fit(photographs()),
    Projected.onto(torch.randn(7, *SHAPE, generator=torch.Generator().manual_seed(1)), Standardise.fit(photographs())),
]
NAMES = ["standardise", "zca of all", "zca of 12 directions", "spectral", "projected"]
every_one = pytest.mark.parametrize("preprocessing", FITTED, ids=NAMES)
Fitted = type[Standardise] | type[ZCA] | type[Spectral]
every_fitted_kind = pytest.mark.parametrize("kind", [Standardise, ZCA, Spectral], ids=lambda kind: kind.kind)


def test_every_kind_is_tested_here() -> None:
    assert {preprocessing.kind: type(preprocessing) for preprocessing in FITTED} == PREPROCESSINGS


@every_one
def test_to_pixels_inverts_to_model(preprocessing: AbstractPreprocessing) -> None:
    pixels = batch()
    assert_close(preprocessing.to_pixels(preprocessing.to_model(pixels)), pixels, terms=2 * NUMBERS)


@every_one
def test_to_model_inverts_to_pixels(preprocessing: AbstractPreprocessing) -> None:
    """Recalled images leave the range of pixels; they are not clipped on the way."""
    images = 10 * torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    pixels = preprocessing.to_pixels(images)
    assert pixels.min() < 0 and pixels.max() > 1
    assert_close(preprocessing.to_model(pixels), images, terms=2 * NUMBERS)


@every_one
def test_a_preprocessing_rebuilt_from_its_tensors_gives_the_same_bits(preprocessing: AbstractPreprocessing) -> None:
    rebuilt = type(preprocessing).from_tensors(preprocessing.tensors())
    assert torch.equal(rebuilt.to_model(batch()), preprocessing.to_model(batch()))
    assert torch.equal(rebuilt.to_pixels(batch()), preprocessing.to_pixels(batch()))


@every_one
def test_both_maps_are_differentiable_and_keep_the_dtype(preprocessing: AbstractPreprocessing) -> None:
    images = batch(1).double().requires_grad_()
    assert preprocessing.to_model(images).dtype == torch.float64
    assert gradcheck(preprocessing.to_model, (images,))
    assert gradcheck(preprocessing.to_pixels, (images,))


@every_one
def test_what_is_stored_is_float32(preprocessing: AbstractPreprocessing) -> None:
    assert {tensor.dtype for tensor in preprocessing.tensors().values()} == {torch.float32}


@every_one
def test_images_of_another_kind_do_not_fit(preprocessing: AbstractPreprocessing) -> None:
    assert preprocessing.fits(SHAPE)
    assert not preprocessing.fits((1, 4, 5))


@every_fitted_kind
def test_fitting_uint8_images_equals_fitting_their_pixels(kind: Fitted) -> None:
    photographed = in_bytes(photographs())
    of_bytes, of_pixels = kind.fit(photographed), kind.fit(photographed / 255)
    of_tensor = kind.fit(torch.from_numpy(photographed))
    for name, tensor in of_bytes.tensors().items():
        assert torch.equal(tensor, of_tensor.tensors()[name])
        assert_close(tensor, of_pixels.tensors()[name])


@every_fitted_kind
def test_arrays_of_any_memory_layout_are_fitted(kind: Fitted) -> None:
    """Read-only (a memory map), channels last (a data set), reversed, and of another machine's byte order."""
    plain = photographs()
    awkward = np.asarray(plain[::-1].transpose(0, 2, 3, 1).copy(), dtype=">f8")[::-1].transpose(0, 3, 1, 2)
    awkward.flags.writeable = False
    fitted, expected = kind.fit(awkward).tensors(), kind.fit(plain).tensors()
    assert all(torch.equal(fitted[name], tensor) for name, tensor in expected.items())


@every_fitted_kind
def test_fitting_in_chunks_equals_fitting_at_once(kind: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = kind.fit(photographs()).to_model(batch())
    monkeypatch.setattr("recall_server.core.preprocessing.statistics.CHUNK", 37)
    assert len(photographs()) < CHUNK and len(photographs()) % 37
    assert_close(kind.fit(photographs()).to_model(batch()), at_once, terms=NUMBERS)


@every_fitted_kind
def test_fitting_changes_neither_images_nor_global_random_state(kind: Fitted) -> None:
    images = photographs()
    before, state = images.copy(), torch.get_rng_state()
    kind.fit(images)
    assert np.array_equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@every_fitted_kind
def test_images_that_cannot_be_fitted_are_refused(kind: Fitted) -> None:
    with pytest.raises(ValueError, match=r"images must be \[N, C, H, W\], not \[4, 5\]"):
        kind.fit(np.zeros((4, 5)))
    with pytest.raises(InvalidDataset, match=r"there is nothing to fit in images of shape \[0, 3, 4, 5\]"):
        kind.fit(np.zeros((0, *SHAPE)))
    broken = photographs()
    broken[123, 0, 0, 0] = np.nan
    with pytest.raises(InvalidDataset, match="images 0 to 399 hold values that are not finite"):
        kind.fit(broken)


def test_standardised_images_have_mean_zero_and_deviation_one_in_each_channel() -> None:
    fitted = Standardise.fit(photographs())
    images = fitted.to_model(torch.from_numpy(photographs()))
    size = float((fitted.mean / fitted.deviation).max())
    assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3).double(), size=size, dtype=torch.float32)
    assert_close(images.std(dim=(0, 2, 3), correction=0), torch.ones(3).double(), dtype=torch.float32)


def test_a_constant_channel_is_only_centred() -> None:
    images = photographs()
    images[:, 1] = 0.7
    fitted = Standardise.fit(images)
    assert fitted.deviation[1] == 1
    assert fitted.to_model(torch.from_numpy(images))[:, 1].abs().max() < rounding(torch.float32)


def test_a_faint_channel_far_from_zero_is_measured_precisely() -> None:
    """A sum of squares minus a square of sums cancels: in float32 this would come out as zero or as nonsense."""
    faint = 0.999 + 1e-5 * np.random.default_rng(0).standard_normal((500, 1, 4, 4))
    assert_close(float(Standardise.fit(faint).deviation), float(faint.std()), terms=4, dtype=torch.float32)


def test_zca_is_the_formula_of_its_docstring() -> None:
    """x -> D^T (g * (D x0)) + rest * (x0 - D^T D x0), written as it stands, in float64."""
    whitening = ZCA.fit(photographs(), directions=12)
    directions, gains = whitening.directions.double(), whitening.gains.double()
    pixels = batch().double()
    centred = (pixels - whitening.mean.double()).flatten(1)
    expected = torch.stack(
        [
            directions.T @ (gains * (directions @ x)) + whitening.rest.double() * (x - directions.T @ (directions @ x))
            for x in centred
        ]
    )
    assert_close(whitening.to_model(pixels), expected.view_as(pixels), terms=2 * NUMBERS)


def test_zca_scales_the_leading_eigenvectors_by_the_ridged_eigenvalues_and_the_rest_by_their_mean() -> None:
    flat = photographs().reshape(400, -1)
    eigenvalues = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]
    ridged = eigenvalues + 0.1 * eigenvalues.mean()
    whitening = ZCA.fit(photographs(), directions=12)
    assert_close(whitening.gains, torch.from_numpy(ridged[:12] ** -0.5).float())
    assert_close(float(whitening.rest), float(ridged[12:].mean() ** -0.5), dtype=torch.float32)


def test_full_zca_without_a_ridge_leaves_no_correlation() -> None:
    whitened = ZCA.fit(photographs(), ridge=0).to_model(torch.from_numpy(photographs())).flatten(1)
    assert_close(torch.cov(whitened.T, correction=0), torch.eye(60).double(), terms=NUMBERS, dtype=torch.float32)


def test_zca_of_all_directions_is_the_symmetric_square_root() -> None:
    """Of all whitenings, ZCA is the one whose matrix is symmetric: it stays as close to the images as it can."""
    covariance = np.cov(photographs().reshape(400, -1).T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    root = torch.from_numpy(vectors * (values + 0.1 * values.mean()) ** -0.5 @ vectors.T)
    centred = torch.from_numpy(photographs() - photographs().mean(axis=0))
    expected = (centred.flatten(1) @ root).view_as(centred)
    found = ZCA.fit(photographs()).to_model(torch.from_numpy(photographs()))
    assert_close(found, expected, terms=NUMBERS, dtype=torch.float32)


@pytest.mark.parametrize("directions", [0, 61, -1])
def test_zca_refuses_more_directions_than_there_are(directions: int) -> None:
    with pytest.raises(ValueError, match=f"images of 60 numbers have 1 to 60 directions, not {directions}"):
        ZCA.fit(photographs(), directions=directions)


def test_zca_refuses_images_that_do_not_vary_enough_for_its_ridge() -> None:
    few = photographs(20)  # 20 images span 19 of 60 directions
    with pytest.raises(InvalidDataset, match="the images do not vary in every direction; whiten with a ridge above 0"):
        ZCA.fit(few, ridge=0)
    with pytest.raises(InvalidDataset, match="do not vary"):
        ZCA.fit(np.full((20, *SHAPE), 0.5))
    assert ZCA.fit(few).gains.isfinite().all()


def tensors(**changed: Tensor) -> dict[str, Tensor]:
    return FITTED[2].tensors() | changed


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"mean": torch.zeros(60)}, r"mean must be \[C, H, W\]"),
        ({"rest": torch.ones(1)}, "rest a single number"),
        ({"gains": torch.ones(11)}, r"directions \[12, 60\] do not match 11 gains and a mean of 60 numbers"),
        ({"mean": torch.zeros(3, 4, 4)}, r"do not match 12 gains and a mean of 48 numbers"),
        ({"gains": torch.zeros(12)}, "gains must lie between 1e-06 and 1e"),
        ({"rest": torch.tensor(float("nan"))}, "rest must lie between"),
        ({"directions": torch.eye(60)[:12] * 1.01}, "directions must have orthonormal rows"),
        ({"directions": torch.eye(60)[[0] * 12]}, "directions must have orthonormal rows"),
    ],
)
def test_zca_refuses_tensors_that_cannot_be_inverted(changed: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ZCA.from_tensors(tensors(**changed))


@pytest.mark.parametrize("deviation", [0.0, -1.0, 1e-9, 1e9, float("nan"), float("inf")])
def test_standardise_refuses_deviations_that_cannot_be_inverted(deviation: float) -> None:
    with pytest.raises(ValueError, match="deviation must lie between"):
        Standardise(mean=torch.zeros(2), deviation=torch.tensor([1.0, deviation]))


def test_standardise_refuses_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match=r"must both be \[channels\], not \[3\] and \[1\]"):
        Standardise(mean=torch.zeros(3), deviation=torch.ones(1))


def test_a_projection_keeps_the_span_and_fades_the_rest() -> None:
    standard, bases = Standardise.fit(photographs()), batch(4)
    projected = Projected.onto(bases, standard, rest=0.25)
    within = torch.einsum("nk,kchw->nchw", torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), bases)
    assert_close(projected.to_model(standard.to_pixels(within)), within, terms=2 * NUMBERS)
    images = batch(20) - within[:1]
    flat, span = images.flatten(1), bases.flatten(1)
    inside = flat @ torch.linalg.pinv(span) @ span
    outside = (flat - inside).view_as(images)
    assert_close(projected.to_model(standard.to_pixels(outside)), 0.25 * outside, terms=2 * NUMBERS, size=1)


@pytest.mark.parametrize(("bases", "directions"), [(batch(3)[[0, 1, 2, 1, 0]], 3), (torch.zeros(4, *SHAPE), 0)])
def test_dependent_and_zero_bases_add_no_direction(bases: Tensor, directions: int) -> None:
    assert len(Projected.onto(bases, Standardise.fit(photographs())).directions) == directions


@pytest.mark.parametrize("rest", [0.0, -0.5, float("nan")])
def test_a_projection_refuses_a_rest_outside_its_range(rest: float) -> None:
    with pytest.raises(ValueError, match="rest must lie between"):
        Projected.onto(batch(2), Standardise.fit(photographs()), rest)


@needs_fashion_mnist
def test_fashion_mnist_has_the_mean_and_deviation_that_everyone_uses() -> None:
    with np.load(FASHION_MNIST / "train.npz") as archive:
        fitted = Standardise.fit(archive["images"].transpose(0, 3, 1, 2))
    assert round(float(fitted.mean), 4) == 0.2860
    assert round(float(fitted.deviation), 4) == 0.3530
