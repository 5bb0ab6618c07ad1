"""One memory over the classes of many clients, from their memories alone.

A class is one class wherever its label is used. Its centres at all clients are pooled, and weighted by how many
pictures each stands for. Around them, virtual features are drawn with the deviations that are left around the centres:
a Gaussian mixture instead of the single Gaussian of CCVR (Luo et al., "No fear of heterogeneity", NeurIPS 2021).

The head begins with the clients' heads. A head says how the classes of its client differ, and nothing of what they have
in common: any vector may be added to all of its columns. So the column of client i for class c is fitted by U_c - m_i,
with vectors U_c for classes and m_i for clients, by least squares, in which a client counts by the root of its share in
a class. The vectors U_c say nothing of how two classes differ that no client has together. A small correction adds it,
learned from the virtual features, as when a server joins the heads of memories.

If all clients trained their heads beside the same anchors (`starts/features/anchors.py`), the anchors say what the
classes of two clients have in common. Then the vectors m_i are held near zero, and no correction is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.one_step import OneStep, one_step
from recall_server.core.memory import DescribedClasses
from recall_server.core.training.heads.lbfgs import minimise
from recall_server.core.training.heads.loss import equal_class_shares, head_loss
from trainer.run.federated.clients import Client
from trainer.starts.features.described_classes import described_classes
from trainer.starts.features.drawn_features import drawn_features
from trainer.starts.features.trained_features import Labelled

VIRTUAL: Final = 200  # features of a class; 300 change validation accuracy by less than its noise
COST: Final = 0.3  # half the squared correction costs so much, against the mean loss, as of a class in `joined_head`
POWER: Final = 0.5  # of shares in the fit of heads; 1 is worse by half a point on validation pictures, and 0 by two
FIRM: Final = 0.1  # cost of the clients' vectors m_i, against the mean weight of a column: it joins what no class joins
ANCHORED: Final = 10.0  # the same if the clients have the same anchors; chosen on validation pictures
STEPS: Final = 25  # of L-BFGS
HEADROOM: Final = 1.5  # bases for each class, at least: they span the head, and half as many directions beside it


class Merged(NamedTuple):
    """The memory of all labels, its space, and the schedule of one step that gives its head."""

    labels: tuple[str, ...]
    memory: DescribedClasses
    step: OneStep


def merge(clients: Sequence[Client], *, seed: int = 0) -> Merged:
    """The memory of the union of the clients' labels, in the order in which they first come."""
    labels = tuple(dict.fromkeys(label for client in clients for label in client.bundle.labels))
    places = places_of(clients, labels)
    shares = class_shares(clients, places, len(labels))
    data = virtual_features(clients, places, shares, torch.Generator().manual_seed(seed))
    weights = aligned_head(clients, places, shares, len(labels))
    if not have_same_anchors(clients):
        weights = _corrected(weights, data)
    step = one_step(LinearHead(weights, torch.zeros(len(labels))), clients[0].space)
    largest = max(len(client.memory.bases) for client in clients)
    bases = min(weights.shape[1], max(largest, math.ceil(HEADROOM * len(labels))))
    centres = max(len(client.memory.centres) for client in clients)
    return Merged(labels, described_classes(data, step.vectors, bases=bases, centres=centres), step)


def places_of(clients: Sequence[Client], labels: Sequence[str]) -> list[Tensor]:
    """The places [C] of each client's classes among `labels`."""
    return [torch.tensor([labels.index(label) for label in client.bundle.labels]) for client in clients]


def class_shares(clients: Sequence[Client], places: Sequence[Tensor], classes: int) -> list[Tensor]:
    """The share [C] of each client in each of its classes; over clients, the shares of a class sum to one.

    They follow the numbers of pictures. If a client does not say them, all that have a class have an equal share of it.
    """
    counts = [client.counts for client in clients]
    known = [each for each in counts if each is not None]
    weights = known if len(known) == len(clients) else [torch.ones(len(place), dtype=torch.float64) for place in places]
    total = torch.zeros(classes, dtype=torch.float64)
    for place, weight in zip(places, weights, strict=True):
        total.index_add_(0, place, weight)
    return [(weight / total[place]).float() for place, weight in zip(places, weights, strict=True)]


def aligned_head(clients: Sequence[Client], places: Sequence[Tensor], shares: Sequence[Tensor], classes: int) -> Tensor:
    """The vectors U [classes, D] that best explain the clients' heads as U_c - m_i; their sum is zero."""
    owner = torch.repeat_interleave(torch.arange(len(clients)), torch.tensor([len(place) for place in places]))
    design = torch.zeros(len(owner), classes + len(clients), dtype=torch.float64)
    design[torch.arange(len(owner)), torch.cat(list(places))] = 1
    design[torch.arange(len(owner)), classes + owner] = -1
    weights = torch.cat(list(shares)).double().pow(POWER).unsqueeze(1)
    costs = torch.zeros(classes + len(clients), dtype=torch.float64)
    costs[classes:] = (ANCHORED if have_same_anchors(clients) else FIRM) * weights.mean()
    columns = torch.cat([client.head for client in clients]).double()
    normal = design.T @ (weights * design) + costs.diag()
    found: Tensor = torch.linalg.solve(normal, design.T @ (weights * columns))[:classes]
    return (found - found.mean(dim=0)).float().contiguous()


def virtual_features(
    clients: Sequence[Client], places: Sequence[Tensor], shares: Sequence[Tensor], generator: torch.Generator
) -> Labelled:
    """About VIRTUAL features of each class, and one or more of each client's, drawn from mixtures around centres."""
    features, labels = [], []
    for client, place, share in zip(clients, places, shares, strict=True):
        count = (VIRTUAL * share).round().long().clamp(min=1)
        own = torch.arange(len(place)).repeat_interleave(count)
        features.append(drawn_features(client.memory, own, generator))
        labels.append(place[own])
    return Labelled(torch.cat(features), torch.cat(labels))


def have_same_anchors(clients: Sequence[Client]) -> bool:
    """Whether all heads were trained beside the same anchors."""
    return len({client.anchors for client in clients}) == 1 and clients[0].anchors is not None


def _corrected(head: Tensor, data: Labelled) -> Tensor:
    """The head [C, D] and what it lacks to tell the virtual features apart, where all classes count the same."""
    shares = equal_class_shares(data.labels, len(head))

    def loss(correction: Tensor) -> Tensor:
        return head_loss(data.features @ (head + correction).T, data.labels, (COST, correction), shares=shares)

    return head + minimise(loss, [torch.zeros_like(head)], STEPS)[0]
