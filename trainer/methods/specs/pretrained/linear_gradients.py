"""The spec of linear gradient matching."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch.nn.functional import one_hot

from trainer.data.encoders.differentiable import DifferentiableEncoder
from trainer.data.encoders.installed import installed_encoder
from trainer.data.features import EncodingProgress, Featuriser, cache_folder
from trainer.data.splits import Split
from trainer.methods.specs.objectives.base import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Count
from trainer.objectives.base import AbstractObjective
from trainer.objectives.matching.linear_gradients import LinearGradientMatching, Targeted
from trainer.objectives.matching.random_views import RandomViews
from trainer.starts.real.mosaics import draw_pool, unit_features


class LinearGradientMatchingSpec(ObjectiveSpec):
    """Gradients of random heads on `encoder`'s features; see `trainer.objectives.matching.linear_gradients`.

    Real features are those of `real_views` views of `real_per_class` pictures of each class, computed once. Views are
    crops of at least the share `smallest_crop`, at `size`, with noise of the deviation `noise`.
    """

    kind: Literal["linear_gradient_matching"] = "linear_gradient_matching"
    encoder: str = "efficientnet-lite0"
    size: Annotated[int, Field(ge=8)] = 224
    views: Count = 10
    real_views: Count = 3
    real_per_class: Count = 500
    real_batch: Count = 1_000
    smallest_crop: Annotated[float, Field(gt=0, le=1)] = 0.08
    noise: NonNegativeFloat = 0.2
    deviation: PositiveFloat = 0.01

    def build(self, problem: Problem) -> AbstractObjective:
        """Raises ValueError for a data set of features, and like `installed_encoder` and `DifferentiableEncoder`."""
        data, device = problem.dataset, problem.device
        if data.image_shape[1:] == (1, 1):
            raise ValueError("linear gradient matching is for pictures, not for features")
        encoder = installed_encoder(self.encoder, self.size)
        through, scale = DifferentiableEncoder(encoder.model, device), encoder.query_size**0.5
        featuriser = Featuriser(encoder, cache=cache_folder(), report=EncodingProgress())
        generator = torch.Generator().manual_seed(0)  # the same pictures for every seed: their features are cached
        pool = draw_pool(data.train, len(data.classes), self.real_per_class, generator)
        views = RandomViews(self.size, self.smallest_crop, self.noise)
        features = [self._features(pool, views, featuriser, generator) for _ in range(self.real_views)]
        targets = one_hot(pool.labels, len(data.classes)).float().repeat(self.real_views, 1)
        return self.make(
            LinearGradientMatching,
            encoder=lambda pixels: through(pixels) * scale,
            preprocessing=problem.preprocessing,
            real=Targeted(torch.cat(features).to(device), targets.to(device)),
            random_views=views,
        )

    @staticmethod
    def _features(pool: Split, views: RandomViews, featuriser: Featuriser, generator: torch.Generator) -> torch.Tensor:
        """Features [n, D] of one view of each picture."""
        found = []
        for chunk in pool.chunks(512):
            seen = views(chunk.pixels().expand(-1, 3, -1, -1), generator)
            found.append(unit_features(featuriser, (255 * seen).round().to(torch.uint8)))
        return torch.cat(found)
