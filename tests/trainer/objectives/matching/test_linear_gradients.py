"""Linear gradient matching is its formula, by autograd through a head in float64; its views are parts of pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from recall_server.core.memory import StoredItems
from recall_server.core.preprocessing import Standardise
from tests.tolerances import assert_close
from trainer.objectives.matching.linear_gradients import LinearGradientMatching, Targeted, gradient_distance
from trainer.objectives.matching.random_views import RandomViews
from trainer.objectives.queries import LabelQueries
from trainer.objectives.real_data import RealData
from trainer.objectives.sampler import Sampler

WIDTH, CLASSES = 6, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(count: int, seed: int) -> Targeted:
    values = torch.randn(count, WIDTH, generator=generator(seed), dtype=torch.float64)
    return Targeted(values, one_hot(torch.arange(count) % CLASSES, CLASSES).double())


def head_gradient(weights: Tensor, data: Targeted) -> Tensor:
    """By autograd, weights and bias in one vector."""
    head, bias = weights.clone().requires_grad_(), torch.zeros(CLASSES, dtype=torch.float64, requires_grad=True)
    loss = cross_entropy(data.features @ head.T + bias, data.targets)
    found = torch.autograd.grad(loss, [head, bias], create_graph=True)
    return torch.cat([each.flatten() for each in found])


def test_the_loss_is_the_cosine_distance_of_the_gradients_of_a_head() -> None:
    weights = torch.randn(CLASSES, WIDTH, generator=generator(3), dtype=torch.float64)
    recalled, real = features(5, seed=1), features(12, seed=2)
    gradients = []
    for distance in (
        gradient_distance,
        lambda *given: 1 - cosine_similarity(*(head_gradient(given[0], each) for each in given[1:]), dim=0),
    ):
        values = recalled.features.clone().requires_grad_()
        loss = distance(weights, Targeted(values, recalled.targets), real)
        gradients.append((loss.item(), torch.autograd.grad(loss, values)[0]))
    assert_close(gradients[0][0], gradients[1][0], terms=12 * WIDTH)
    assert_close(gradients[0][1], gradients[1][1], terms=12 * WIDTH)


def test_equal_data_have_no_distance() -> None:
    weights, data = torch.zeros(CLASSES, WIDTH, dtype=torch.float64), features(6, seed=1)
    assert_close(gradient_distance(weights, data, data).item(), 0.0, terms=6 * WIDTH, size=1.0)


def test_all_recalled_pictures_are_seen_in_pixel_space_as_often_as_there_are_views() -> None:
    seen: list[Tensor] = []

    def encoder(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return pixels.mean(dim=(2, 3))

    space = Standardise(torch.tensor([0.5]), torch.tensor([0.25]))
    levels = torch.tensor([0.1, 0.2, 0.4, 0.5, 0.7, 0.8]).view(3, 2, 1, 1, 1).expand(3, 2, 1, 8, 8)
    memory = StoredItems(space.to_model(levels.flatten(0, 1)).unflatten(0, (3, 2)))
    sampler = Sampler(memory, LabelQueries(), RealData.of(torch.zeros(3, 1, 8, 8), torch.arange(3), 3))
    real = Targeted(torch.rand(9, 3, generator=generator()), torch.eye(3).repeat(3, 1))
    objective = LinearGradientMatching(encoder, space, real, RandomViews(12, 0.3, 0.0), views=2, real_batch=5)
    assert 0 <= objective.loss(sampler, {}, generator()).item() <= 2
    (pixels,) = seen
    assert pixels.shape == (12, 3, 12, 12)
    assert_close(pixels[:, :, 0, 0], levels.flatten(0, 1)[:, :, 0, 0].expand(-1, 3).repeat(2, 1), terms=10)


def ramp() -> Tensor:
    """Pictures [50, 2, 20, 20] whose channels say where a pixel is, from the left and from the top."""
    places = (torch.arange(20.0) + 0.5) / 20
    return torch.stack([places.expand(20, 20), places.unsqueeze(1).expand(20, 20)]).expand(50, -1, -1, -1)


def test_views_are_crops_of_at_least_the_smallest_area_some_of_them_mirrored() -> None:
    views = RandomViews(16, 0.25, 0.0)(ramp(), generator())
    assert views.shape == (50, 2, 16, 16)
    across, down = views[:, 0, 0, -1] - views[:, 0, 0, 0], views[:, 1, -1, 0] - views[:, 1, 0, 0]
    assert (across < 0).any() and (across > 0).any() and (down > 0).all(), "mirrored from left to right alone"
    areas = across.abs() * down * (16 / 15) ** 2  # from the centres of the outer pixels to their edges
    assert areas.min() > 0.2 and areas.max() < 1.2
    assert areas.max() > 1.5 * areas.min()


def test_half_of_the_views_have_noise() -> None:
    grey = torch.full((200, 1, 4, 4), 0.5)
    views = RandomViews(4, 1.0, 0.1)(grey, generator())
    noisy = (views != 0.5).flatten(1).any(dim=1)
    assert 70 < int(noisy.sum()) < 130
    assert float(views[noisy].std()) == pytest.approx(0.1, rel=0.1)


def test_gradients_reach_the_pictures() -> None:
    pictures = ramp().clone().requires_grad_()
    RandomViews(10, 0.5, 0.0)(pictures, generator()).sum().backward()  # type: ignore[no-untyped-call]
    assert pictures.grad is not None
    assert (pictures.grad.flatten(1).abs().sum(dim=1) > 0).all()
