"""Federated learning in one round of memories, beside FedAvg, a memory of all data and a linear probe on all data.

    python -m benchmarks.federated --encoder FILE.onnx [--anchors BUNDLE] [--concentration 0.1]
        [--split test|validation] [--quick]

Ten clients divide the training pictures of CIFAR-10, each class by shares from a Dirichlet distribution. Each makes a
memory of its own features by `exact`, as `recall-trainer distill --encoder` does, and sends the file once; the server
merges the files as `recall-trainer federate` does. `aligned_heads` is what the server has before it learns from virtual
features. With `--anchors`, all clients train their heads beside the classes of that memory.

FedAvg trains a linear head on the same features: in every round each client receives the head, trains it for
`--local-epochs` and sends it back, in float32. `bytes` are all that is sent, in both directions; the files of memories
go one way. `fedavg_bytes` are those of the first round that is as accurate as the memories; where none of `--rounds`
is, those of all of them, and `reached` is false. The last line is JSON.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.command import add_encoder, command_parser, featuriser, parse, print_figures
from benchmarks.fed_avg import FedAvg, bytes_of_a_round, dirichlet_parts
from recall_server.core.encoders.query_encoder import QueryEncoder
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.splits import Split
from trainer.run.federated.clients import read_clients
from trainer.run.federated.federate import federate
from trainer.run.federated.merging import aligned_head, class_shares, places_of
from trainer.run.search.feature_memory import heads_accuracy, make_features
from trainer.run.search.feature_methods import FeatureRequest
from trainer.starts.features.anchors import Anchors
from trainer.starts.features.linear_head import HeadSettings
from trainer.starts.features.trained_features import Labelled

PICTURE = 32 * 32 * 3
HELD_OUT = 10  # of so many pictures of a client's class, one is for validation
HEAD = HeadSettings(ridge=0.003, balance=0.5)  # of all clients, chosen on validation pictures
OF_ONE_CLASS = 1.0  # images per class of a client with one class; fewer describe none
QUICK = {"pictures": 3000, "rounds": 3}


def of_client(dataset: ImageDataset, part: Tensor, name: str) -> ImageDataset:
    """The data set of a client, with the classes that it has. It has no test pictures."""
    split = dataset.train.select(part)
    present, labels = torch.unique(split.labels, return_inverse=True)
    own = Split(split.images, labels)
    held = torch.zeros(len(own), dtype=torch.bool)
    for label in range(len(present)):
        members = torch.nonzero(labels == label).flatten()  # in random order
        held[members[: len(members) // HELD_OUT]] = True
    return replace(
        dataset,
        name=name,
        classes=tuple(dataset.classes[each] for each in present.tolist()),
        train=own.select(~held),
        validation=own.select(held),
        test=own.select(torch.empty(0, dtype=torch.long)),
        groups={},
    )


def memory(
    dataset: ImageDataset, encoder: QueryEncoder, images: float, folder: Path, anchors: Anchors | None = None
) -> None:
    """Write the memory of a data set of features as folder/NAME.safetensors."""
    size = images if len(dataset.classes) > 1 else max(images, OF_ONE_CLASS)
    output = folder / f"{dataset.name}.safetensors"
    request = FeatureRequest(
        dataset, encoder, "encoder", PICTURE, size, output, storage="int8", head=HEAD, anchors=anchors
    )
    make_features(request, lambda sentence: None)


def one_round(dataset: ImageDataset, clients: Sequence[ImageDataset], encoder: QueryEncoder, options: Any) -> Any:
    """The figures of the memories: of all clients, merged, and of one client with all data."""
    judged: Split = getattr(dataset, options.split)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        anchors = None if options.anchors is None else Anchors.read(options.anchors, encoder)
        for client in clients:
            memory(client, encoder, options.images_per_class, folder / "clients", anchors)
        received = read_clients(folder / "clients")
        merged = federate(received, folder / "merged.safetensors")
        places = places_of(received, merged.labels)
        shares = class_shares(received, places, len(merged.labels))
        aligned = aligned_head(received, places, shares, len(merged.labels))
        back = torch.tensor([dataset.classes.index(label) for label in merged.labels])
        in_order = Split(judged.images, back.argsort()[judged.labels])
        whole = replace(dataset, name="central")
        request = FeatureRequest(
            whole, encoder, "encoder", PICTURE, options.images_per_class, folder / "central.safetensors", storage="int8"
        )
        central = make_features(request, lambda sentence: None)
        assert central.found.probe is not None, "the method is exact"
        return {
            "memories": heads_accuracy(merged, in_order).mean,
            "aligned_heads": accuracy(aligned, in_order),
            "central_memory": heads_accuracy(central.bundle, judged).mean,
            "linear_probe": central.found.probe.accuracy(judged),
            "bytes": sum(client.bundle.file_bytes or 0 for client in received),
            "merged_bytes": merged.file_bytes,
        }


def accuracy(weights: Tensor, split: Split) -> float:
    """Of a head without bias."""
    right = [(part.pixels().flatten(1) @ weights.T).argmax(dim=1) == part.labels for part in split.chunks(4096)]
    return float(torch.cat(right).float().mean())


def many_rounds(dataset: ImageDataset, clients: Sequence[Labelled], options: Any) -> list[float]:
    """The accuracy of FedAvg after each round."""
    rounds = FedAvg(options.local_epochs, options.rate).rounds(
        clients, len(dataset.classes), torch.Generator().manual_seed(options.seed)
    )
    return [accuracy(each, getattr(dataset, options.split)) for each in islice(rounds, options.rounds)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "threads", "quick")
    add_encoder(parser)
    parser.add_argument("--anchors", type=Path, help="a memory of other classes in features of the encoder")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--concentration", type=float, default=0.1, help="of the Dirichlet distribution")
    parser.add_argument("--images-per-class", type=float, default=1.7, help="the size of a client's memory")
    parser.add_argument("--rounds", type=int, default=60, help="of FedAvg")
    parser.add_argument("--local-epochs", type=int, default=1, help="of a client in a round of FedAvg")
    parser.add_argument("--rate", type=float, default=0.03, help="of FedAvg, chosen on validation pictures")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    options = parse(parser, arguments)
    source = featuriser(options)
    dataset = load_dataset("cifar10", seed=0, featuriser=source)
    if options.quick:
        options.rounds = QUICK["rounds"]
        chosen = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))[: QUICK["pictures"]]
        dataset = replace(dataset, train=dataset.train.select(chosen))
    generator = torch.Generator().manual_seed(options.seed)
    parts = dirichlet_parts(dataset.train.labels, options.clients, options.concentration, generator)
    parts = [part for part in parts if len(part)]
    clients = [of_client(dataset, part, f"client-{number}") for number, part in enumerate(parts)]
    found = one_round(dataset, clients, source.encoder, options)
    scale = source.encoder.query_size**0.5  # features have length one
    own = [Labelled(dataset.train.images[part].flatten(1) * scale, dataset.train.labels[part]) for part in parts]
    rounds = many_rounds(dataset, own, options)
    reached = next((at for at, each in enumerate(rounds) if each >= found["memories"]), None)
    needed = len(rounds) if reached is None else reached + 1
    sent = needed * bytes_of_a_round(len(parts), len(dataset.classes), source.encoder.query_size)
    print_figures(
        {
            **{key: round(100 * value, 2) if isinstance(value, float) else value for key, value in found.items()},
            "concentration": options.concentration,
            "pictures": [len(part) for part in parts],
            "classes": [len(client.classes) for client in clients],
            "fedavg": [round(100 * each, 2) for each in rounds],
            "fedavg_rounds": needed,
            "fedavg_bytes": sent,
            "reached": reached is not None,
            "times_the_bytes": round(sent / found["bytes"], 1),
        }
    )


if __name__ == "__main__":
    main()
