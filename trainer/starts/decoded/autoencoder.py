"""The start of memories of codes: the decoders of an autoencoder, and the codes of real images.

The autoencoder is trained on the training images by squared error. Its encoder mirrors the decoders: three
convolutions, with the size halved after each of the first two. The encoder is not kept.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu, pad

from recall_server.core.memory import LatentCodes
from recall_server.core.memory.decoded.decoders import REDUCTION, SLOPE, Decoders
from recall_server.core.training.retraining import cosine
from recall_server.core.training.updates import State, adam
from trainer.starts.real.selection import at_random
from trainer.starts.training_data import TrainingData

BATCH, RATE = 128, 3e-3


def autoencoded(memory: LatentCodes, data: TrainingData, *, steps: int) -> LatentCodes:
    """The memory with trained decoders and the codes of real images, on the CPU."""
    shape, split, generator, device = memory.decoders.shape, data.split, data.generator, data.device
    encoder = _encoder(shape.channels, shape.filters, shape.code, generator)
    learned = {name: value.to(device) for name, value in (memory.decoders.tensors() | encoder).items()}
    leaves = {name: value.clone().requires_grad_() for name, value in learned.items()}
    states: dict[str, State] = {name: {} for name in leaves}
    for done in range(steps):
        index = torch.randint(len(split), (min(BATCH, len(split)),), generator=generator)
        images = data.items(split.select(index)).to(device)
        decoded = Decoders.from_tensors(leaves)(_encode(leaves, images), memory.height, memory.width)
        loss = (decoded - images.unsqueeze(1)).square().mean()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            adam(leaf, gradient, states[name], rate=RATE * cosine(done / steps))
    trained = {name: leaf.detach().cpu() for name, leaf in leaves.items()}
    codes = []
    for label in range(memory.query_size):
        members = torch.nonzero(split.labels == label).flatten()
        count = memory.stored.shape[1]
        order = at_random(members.unsqueeze(1), min(count, len(members)), generator)
        chosen = members[order.repeat(-(-count // len(order)))[:count]]
        with torch.no_grad():
            codes.append(_encode(trained, data.items(split.select(chosen))))
    return replace(memory, stored=torch.stack(codes), decoders=Decoders.from_tensors(trained))


def _encoder(channels: int, filters: int, code: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights of the three layers, by name."""
    sizes = {"first": (filters, channels), "second": (filters, filters), "last": (code, filters)}
    return {
        f"encoder.{name}": torch.randn(*size, 3, 3, generator=generator) * (2 / (9 * size[1])) ** 0.5
        for name, size in sizes.items()
    }


def _encode(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Images [n, C, H, W] -> codes [n, c, h, w]."""
    height, width = images.shape[2:]
    images = pad(images, (0, -width % REDUCTION, 0, -height % REDUCTION))
    for name in ("encoder.first", "encoder.second"):
        images = avg_pool2d(leaky_relu(conv2d(images, weights[name], padding=1), SLOPE), 2)
    return conv2d(images, weights["encoder.last"], padding=1)
