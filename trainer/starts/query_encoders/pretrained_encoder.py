"""A query encoder that is trained to tell the classes of its data set apart, before a memory is distilled.

Its convolutions are those of a classifier trained on real pictures, as in the baselines of the paper (appendix A.3).
The training costs time once, when the memory is made; the encoder's size does not change.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.networks.base import CLASSIFIER
from recall_server.core.training.augmentation import AUGMENTATIONS, augment
from recall_server.core.training.descent import MomentumDescent
from recall_server.core.training.retraining import cosine
from recall_server.errors import TrainingFailed
from trainer.data.splits import Split
from trainer.starts.training_data import TrainingData

BATCH = 256
RATE, MOMENTUM = 0.02, 0.9  # initial learning rate; it falls to zero by a cosine


def pretrain_encoder(
    encoder: AbstractNetwork,
    parameters: Parameters,
    data: TrainingData,
    *,
    steps: int,
    augmentation: str,
) -> Parameters:
    """The encoder's parameters after training a classifier of all classes for `steps` minibatches.

    Training starts from `parameters`, and the last layer is returned unchanged. The result lies on the device of
    `parameters`. Raises TrainingFailed if the classifier diverges.
    """
    split, generator, device = data.split, data.generator, data.device
    network = replace(encoder, classes=int(split.labels.max()) + 1)
    first = network.initialise(generator)
    first |= {name: value for name, value in parameters.items() if not name.startswith(CLASSIFIER)}
    descent = MomentumDescent(network, {name: value.to(device) for name, value in first.items()})
    held = Split(split.images.to(device), split.labels.to(device))
    targets = torch.eye(network.classes, device=device)
    for done in range(steps):
        index = torch.randint(len(split), (min(BATCH, len(split)),), generator=generator).to(device)
        batch = held.select(index)
        images = augment(data.items(batch), AUGMENTATIONS[augmentation], generator)
        rate = RATE * cosine(done / steps)
        with torch.enable_grad():
            descent.step(images, targets[batch.labels], rate=rate, momentum=MOMENTUM)
    if not descent.finite():
        raise TrainingFailed("the query encoder diverged while it learned the classes; leave `encoder_steps` out")
    learned = descent.parameters()
    return {
        name: value if name.startswith(CLASSIFIER) else learned[name].to(value.device).clone()
        for name, value in parameters.items()
    }
