"""The features that a head needs least go first, as refitting without each of them would tell."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.starts.features.feature_choice import RIDGE, ranked_features

WIDTH = 7


def error(moments: Tensor, products: Tensor, kept: list[int], ridge: float) -> float:
    """What ridge regression on these features alone leaves of the squared error, up to a constant."""
    some = moments[kept][:, kept] + ridge * torch.eye(len(kept))
    return -float((products[kept] * torch.linalg.solve(some, products[kept])).sum())


def test_each_feature_that_goes_is_the_one_that_is_missed_least() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, WIDTH, generator=generator, dtype=torch.float64)
    features[:, 3] = features[:, 1] + 0.1 * features[:, 3]  # of these two, one is enough
    targets = torch.randn(50, 2, generator=generator, dtype=torch.float64) + features[:, [1, 5]]
    moments, products = features.T @ features / 50, features.T @ targets / 50
    ridge, kept, gone = RIDGE * float(moments.diagonal().mean()), list(range(WIDTH)), []
    while len(kept) > 1:
        errors = {each: error(moments, products, [other for other in kept if other != each], ridge) for each in kept}
        gone.append(min(errors, key=errors.__getitem__))
        kept.remove(gone[-1])
    assert ranked_features(moments, products).tolist() == [*kept, *reversed(gone)]
    assert set(ranked_features(moments, products)[:2].tolist()) & {1, 3}
