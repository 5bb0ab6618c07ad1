"""The accuracy of classifiers on adversarial pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.training.descent import logits_of_images
from trainer.data.splits import Split
from trainer.evaluation.evaluate import Predict, Way, predict
from trainer.objectives.attacks import AbstractAttack, NoAttack, ProjectedGradient

BATCH: Final = 500  # pictures that are attacked together
MOST_ATTACKED: Final = 1_000  # test pictures: an attack takes some forty times as long as a prediction
STEPS: Final = 20


def attackable(test: Split) -> Split:
    """Random pictures, at most MOST_ATTACKED."""
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:MOST_ATTACKED]
    return test.select(chosen.sort().values)


def with_attacked(ways: Mapping[str, Way], epsilon: float) -> dict[str, Way]:
    """Each way followed by the same, measured on pictures after PGD within `epsilon`."""
    attack = under(ProjectedGradient(epsilon, STEPS))
    found: dict[str, Way] = {}
    for name, (measure, runs) in ways.items():
        found[name] = measure, runs
        found[f"{name}, under PGD-{STEPS} at {epsilon:.4g}"] = measure, replace(runs, predictions=attack)
    return found


def under(attack: AbstractAttack, *, restarts: int = 1, seed: int = 0) -> Predict:
    """Predictions of pictures in pixel space after the attack, the worst of so many runs of it.

    A picture that is classified wrongly as it is, or after an earlier run, is not attacked again.
    """
    if isinstance(attack, NoAttack):
        return predict
    return partial(_attacked, attack=attack, restarts=restarts, seed=seed)


def _attacked(classifier: FreshClassifier, split: Split, *, attack: AbstractAttack, restarts: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = predict(classifier, split)
    for _ in range(restarts):
        right = torch.nonzero(found == split.labels).flatten()
        for chosen in torch.split(right, BATCH):
            part = split.select(chosen)
            targets = one_hot(part.labels, len(classifier.labels)).float()
            pixels = attack(partial(_logits, classifier), part.pixels(), targets, generator)
            found[chosen] = classifier.predict_probabilities(pixels).argmax(dim=1)
    return found


def _logits(classifier: FreshClassifier, pixels: Tensor) -> Tensor:
    """Pictures [N, C, H, W] in pixel space -> logits [N, k], once differentiable in the pictures."""
    images = classifier.preprocessing.to_model(pixels.to(classifier.device, torch.float32))
    return logits_of_images(classifier.network, classifier.parameters(), images)
