"""Federated learning: clients divide all pictures, and both ways of learning from them are measured."""

from __future__ import annotations

import argparse
from itertools import islice

import torch
from torch.nn.functional import normalize

from benchmarks.fed_avg import FedAvg, bytes_of_a_round, dirichlet_parts
from benchmarks.federated import accuracy, many_rounds, of_client
from trainer.data.splits import ImageDataset, Split
from trainer.starts.features.trained_features import Labelled

CLASSES, WIDTH, EACH = 4, 24, 50


def made_up() -> ImageDataset:
    means = normalize(torch.rand(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    noise = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(1))
    split = Split(normalize(means[labels] + 0.05 * noise, dim=1)[:, :, None, None].half(), labels)
    return ImageDataset("made up", tuple("abcd"), split, split, split, "0" * 64, "none")


def test_clients_divide_the_pictures_unevenly() -> None:
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    parts = dirichlet_parts(labels, 5, 0.1, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    even = dirichlet_parts(labels, 5, 1000.0, torch.Generator().manual_seed(0))
    assert max(map(len, even)) - min(map(len, even)) < 20 < max(map(len, parts)) - min(map(len, parts))


def test_a_client_has_the_classes_that_it_has_pictures_of() -> None:
    dataset = made_up()
    client = of_client(dataset, torch.cat([torch.arange(25), torch.arange(100, 103)]), "client")
    assert client.classes == ("a", "c")
    assert torch.bincount(client.train.labels).tolist() == [23, 3]
    assert client.validation.labels.tolist() == [0, 0]


def test_fedavg_of_one_client_with_one_batch_is_gradient_descent() -> None:
    features = torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(0))
    client = Labelled(features, torch.arange(8) % CLASSES)
    (found,) = islice(FedAvg(1, 0.5, batch=8).rounds([client], CLASSES, torch.Generator()), 1)
    weights = torch.zeros(CLASSES, WIDTH, requires_grad=True)
    torch.nn.functional.cross_entropy(features @ weights.T, client.labels).backward()
    assert weights.grad is not None
    torch.testing.assert_close(found, -0.5 * weights.grad)


def test_fedavg_learns_and_its_bytes_are_counted() -> None:
    dataset = made_up()
    parts = dirichlet_parts(dataset.train.labels, 3, 0.5, torch.Generator().manual_seed(0))
    clients = [
        Labelled(WIDTH**0.5 * dataset.train.images[part].flatten(1), dataset.train.labels[part]) for part in parts
    ]
    options = argparse.Namespace(local_epochs=1, rate=0.03, seed=0, rounds=20, split="test")
    rounds = many_rounds(dataset, clients, options)
    assert len(rounds) == 20
    assert rounds[-1] > 0.9
    assert accuracy(torch.eye(CLASSES, WIDTH), Split(torch.eye(CLASSES, WIDTH)[:, :, None, None], torch.arange(4))) == 1
    assert bytes_of_a_round(3, CLASSES, WIDTH) == 2 * 3 * CLASSES * WIDTH * 4
