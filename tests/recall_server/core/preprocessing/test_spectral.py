"""Whitening by frequency and colour: its formula, how close it is to ZCA, and what it refuses.

What it has in common with every preprocessing is in test_preprocessing.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from recall_server.core.preprocessing import ZCA, Spectral, Standardise
from recall_server.core.preprocessing.spectral import cosines
from recall_server.errors import InvalidDataset
from tests.recall_server.core.preprocessing.test_preprocessing import NUMBERS, SHAPE, batch, photographs
from tests.tolerances import assert_close

WHITENING = Spectral.fit(photographs())


def test_spectral_fits_images_of_one_size() -> None:
    assert not WHITENING.fits((3, 5, 4))


def test_cosines_are_the_orthonormal_transform() -> None:
    for size in (1, 4, 5, 32):
        matrix, image = cosines(size), np.random.default_rng(size).normal(size=size)
        assert_close(matrix @ matrix.T, torch.eye(size).double(), terms=size, gain=4)  # angles of many turns
        assert_close(matrix.numpy() @ image, scipy.fft.dct(image, type=2, norm="ortho"), terms=size, gain=4)


def test_spectral_is_the_formula_of_its_docstring() -> None:
    """x -> R^T F^-1(gains * F(R (x - mean))), with the transform of another library, in float64."""
    pixels = batch().double()
    centred = pixels.numpy() - WHITENING.mean.double().numpy()[:, None, None]
    rotation = WHITENING.rotation.double().numpy()
    components = np.einsum("kc,nchw->nkhw", rotation, centred)
    coefficients = scipy.fft.dctn(components, axes=(2, 3), norm="ortho") * WHITENING.gains.double().numpy()
    expected = np.einsum("kc,nkhw->nchw", rotation, scipy.fft.idctn(coefficients, axes=(2, 3), norm="ortho"))
    assert_close(WHITENING.to_model(pixels), torch.from_numpy(expected), terms=2 * NUMBERS)


def test_spectral_gives_all_coefficients_equal_variance_up_to_the_ridge() -> None:
    images = torch.from_numpy(photographs())
    for ridge in (0.0, 0.1):
        whitening = Spectral.fit(photographs(), ridge=ridge)
        rotation = whitening.rotation.double()
        components = torch.einsum("kc,nchw->nkhw", rotation, whitening.to_model(images))
        variances = (cosines(4) @ components @ cosines(5).T).square().mean(dim=0)
        before = variances / whitening.gains.double().square()
        expected = before / (before + ridge * before.mean())
        assert_close(variances, expected, terms=2 * NUMBERS, dtype=torch.float32)


def test_spectral_equals_zca_if_cosines_diagonalise_the_covariance() -> None:
    """Moving-average noise that is mirrored at the edges has the cosines as its eigenvectors, so both find the same."""
    generator = np.random.default_rng(5)
    mixing = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    scale = np.array([3.0, 1.0, 0.5])[:, None, None] / (1 + np.arange(4)[:, None] + 2 * np.arange(5))
    coefficients = generator.normal(size=(60_000, *SHAPE)) * scale
    smooth = np.einsum("kc,nkhw->nchw", mixing, scipy.fft.idctn(coefficients, axes=(2, 3), norm="ortho"))
    pixels = torch.from_numpy(smooth[:50])
    spectral, zca = (kind.fit(smooth).to_model(pixels).flatten(1) for kind in (Spectral, ZCA))
    assert torch.nn.functional.cosine_similarity(spectral, zca).min() > 0.999


def test_spectral_approximates_zca_for_stationary_images() -> None:
    """Windows on smooth noise without an edge; the cosines do not diagonalise their covariance exactly."""
    noise = np.random.default_rng(3).normal(size=(2_000, 3, 20, 20))
    for axis in (2, 3, 2, 3):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
    windows = noise[:, :, 8:12, 8:13]
    pixels, cosine = torch.from_numpy(windows), torch.nn.functional.cosine_similarity
    whitened = ZCA.fit(windows).to_model(pixels).flatten(1)
    spectral, standardised = (
        cosine(kind.fit(windows).to_model(pixels).flatten(1), whitened).mean() for kind in (Spectral, Standardise)
    )
    assert spectral > 0.95 > 0.9 > standardised


def test_spectral_stores_little_more_than_one_image() -> None:
    assert sum(tensor.numel() for tensor in WHITENING.tensors().values()) == 3 + 3 * 3 + 60


def test_spectral_refuses_images_that_do_not_vary_enough_for_its_ridge() -> None:
    mirrored = photographs()
    mirrored = mirrored + mirrored[..., ::-1]  # nothing is left of the frequencies that are odd
    with pytest.raises(InvalidDataset, match="the images do not vary in every frequency; whiten with a ridge above 0"):
        Spectral.fit(mirrored, ridge=0)
    with pytest.raises(InvalidDataset, match="do not vary"):
        Spectral.fit(np.full((20, *SHAPE), 0.5))
    assert Spectral.fit(mirrored).gains.isfinite().all()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"mean": torch.zeros(3, 4, 5)},
            r"mean must be \[C\], rotation \[C, C\] and gains \[C, H, W\], not \[3, 4, 5\]",
        ),
        ({"mean": torch.zeros(())}, r"mean must be \[C\].*, not \[\], \[3, 3\] and \[3, 4, 5\]"),
        ({"mean": torch.zeros(1)}, r"not \[1\], \[3, 3\] and"),
        ({"rotation": torch.eye(3)[:2]}, r"not \[3\], \[2, 3\] and"),
        ({"rotation": torch.eye(2)}, r"not \[3\], \[2, 2\] and"),
        ({"gains": torch.ones(60)}, r"\[3, 3\] and \[60\]"),
        ({"gains": torch.ones(1, 4, 5)}, r"\[3, 3\] and \[1, 4, 5\]"),
        ({"gains": torch.zeros(SHAPE)}, "gains must lie between 1e-06 and 1e"),
        ({"gains": torch.full(SHAPE, float("nan"))}, "gains must lie between"),
        ({"rotation": torch.eye(3) * 1.01}, "rotation must have orthonormal rows"),
        ({"rotation": torch.eye(3)[[0, 0, 1]]}, "rotation must have orthonormal rows"),
        ({"rotation": torch.full((3, 3), float("nan"))}, "rotation must have orthonormal rows"),
    ],
)
def test_spectral_refuses_tensors_that_cannot_be_inverted(changed: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Spectral.from_tensors(WHITENING.tensors() | changed)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 7), (1, 28, 28), (3, 9, 13)])
def test_images_of_any_shape_are_mapped_and_mapped_back(shape: tuple[int, int, int]) -> None:
    pixels = torch.from_numpy(photographs(50, shape)).float()
    whitening = Spectral.fit(pixels)
    assert_close(whitening.to_pixels(whitening.to_model(pixels)), pixels, terms=2 * math.prod(shape))
    assert whitening.to_model(pixels[:0]).shape == (0, *shape)
    assert whitening.to_model(pixels.bfloat16()).dtype == torch.bfloat16
