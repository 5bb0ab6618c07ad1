"""What memories reveal of the pictures that they were made from, beside what they are worth.

    python -m benchmarks.privacy --space pixels [--data fashion-mnist] [--pictures 1000] [--shadows 8] [--quick]
    python -m benchmarks.privacy --space features --encoder FILE.onnx [--data cifar10] [--pictures 2000] [--shadows 8]
    python -m benchmarks.privacy --space pixels --whole
    python -m benchmarks.privacy --space features --encoder FILE.onnx --whole

`--pictures` training pictures are members, and as many others are not; memories are made from the members alone. The
attacks are those of `recall-trainer audit`, with shadow memories; figures are of the stronger one, with 95 % intervals.
Each memory has the numbers of ten images per class in pixels, and of one in features. `stored` is a memory of random
real pictures that holds all of its members, and `random` one that holds a part of them. `distilled` is the method
window after 50 outer steps; `private` has epsilon 8 and 1 at delta 1e-5. Networks are narrow. Accuracies are in per
cent of test pictures, by one network or head. `--only NAME` makes some of the memories.

With `--whole`, nothing is attacked: memories of all training pictures, `instant` or `exact`, and `private`, are
compared in accuracy, over `--draws` of the noise. --quick: few pictures and four shadows. The last line is JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.command import CPU, NARROW, add_encoder, command_parser, featuriser, parse, print_figures
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.memory import StoredItems
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.splits import Split
from trainer.evaluation.audit.attack import Estimate
from trainer.evaluation.audit.pictures import AuditPictures
from trainer.evaluation.audit.shown import Attacked
from trainer.evaluation.evaluate import Accuracies, Runs, fresh_accuracy
from trainer.methods.named import compose
from trainer.methods.specs.budget import Size
from trainer.run.audit.audit import Audit, audit
from trainer.run.audit.shadows import FeatureShadows, MakeShadow, PixelShadows, PrivateShadows
from trainer.run.search.private_pixels import PrivateSettings
from trainer.starts.private.class_statistics import Privacy

IMAGES = {"pixels": 10, "features": 1}  # per class
BASES = 160  # two fifths of these numbers, the first guess for instant memories of Fashion-MNIST
PRIVATE_BASES = 32  # of private memories of pixels: further ones are more noise than picture
PICTURE = 32 * 32 * 3  # numbers of a picture of CIFAR, in which budgets of features are counted
PROMISES = (8.0, 1.0)  # epsilons
NOT_PRIVATE = ("instant", "exact")  # what private memories of all pictures are compared with
HEAD = Retraining(
    network=NetworkSpec(architecture="linear"), steps=30, learning_rate=1.0, momentum=0.9, rows_per_class=24
)
QUICK = {"pictures": 200, "shadows": 4, "steps": 2}


def divided(dataset: ImageDataset, each: int) -> AuditPictures:
    """So many members of each class, and as many others, from the training pictures."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(dataset.train), generator=generator)
    order = order[dataset.train.labels[order].argsort(stable=True)]
    rank = torch.cat([torch.arange(count) for count in torch.bincount(dataset.train.labels).tolist()])
    sides = order[rank < each], order[(rank >= each) & (rank < 2 * each)]
    return AuditPictures(*(dataset.train.select(side) for side in sides))


def in_pixels(dataset: ImageDataset, steps: int) -> dict[str, MakeShadow]:
    """The makers of memories by their names."""
    found: dict[str, MakeShadow] = {}
    kinds = ("random", "random", 0), ("instant", "principal", 0), ("distilled", "window", steps)
    for name, method, outer_steps in kinds:
        composed = compose(method, [*NARROW, "retraining.steps=100"])
        bases = min(BASES, dataset.image_numbers // 4)
        budget = composed.budget(dataset, images_per_class=IMAGES["pixels"], bases=bases)
        found[name] = PixelShadows(dataset.classes, "float32", composed, budget, outer_steps, CPU)
    schedule = compose("principal", [*NARROW, "retraining.steps=100"]).retraining
    size = Size(IMAGES["pixels"], min(PRIVATE_BASES, dataset.image_numbers // 4))
    for epsilon in PROMISES:
        settings = PrivateSettings(epsilon=epsilon, retraining=schedule)
        found[f"private {epsilon:g}"] = PrivateShadows(dataset.classes, "float32", size, settings)
    return {"stored": found["random"], **found}


def in_features(dataset: ImageDataset, encoder: QueryEncoder) -> dict[str, MakeShadow]:
    """The makers of memories by their names."""
    numbers = IMAGES["features"] * len(dataset.classes) * PICTURE
    width: int = encoder.query_size
    rows = numbers // (len(dataset.classes) * width)
    space = Standardise(torch.zeros(width), torch.full((width,), width**-0.5))

    def random(train: Split, others: Split, seed: int) -> Attacked:
        generator, items = torch.Generator().manual_seed(seed), []
        for label in range(len(dataset.classes)):
            members = torch.nonzero(train.labels == label).flatten()
            drawn = members[torch.randperm(len(members), generator=generator)[:rows]]
            items.append(space.to_model(train.images[drawn].float()).flatten(1))
        return Attacked(StoredItems(torch.stack(items)), space, HEAD)

    of_all = FeatureShadows(dataset.classes, "int8", encoder, "exact", numbers)
    private = {f"private {e:g}": replace(of_all, method="private", privacy=Privacy(epsilon=e)) for e in PROMISES}
    trained = replace(of_all, method="features", outer_steps=200)
    return {"random": random, "exact": of_all, "trained": trained, **private}


def accuracy(memory: Attacked, dataset: ImageDataset) -> float:
    """Of one fresh network on the test pictures, in per cent."""
    with torch.no_grad():
        items, targets = memory.memory.recall(torch.eye(len(dataset.classes)))
    shaped = items.reshape(*items.shape[:2], *dataset.image_shape)
    runs = Runs(memory.retraining, [0], CPU)
    how = {"labels": dataset.classes, "preprocessing": memory.preprocessing}
    return round(100 * fresh_accuracy(shaped, targets, dataset.test, runs, **how).mean, 2)  # type: ignore[arg-type]


def figures(found: Audit) -> dict[str, Any]:
    """Those of the stronger attack, each with its interval, and of the nearest pictures."""
    attack = found.attacks[found.strongest]
    near = found.neighbours
    return {
        "by": found.strongest,
        **{name: rounded(value) for name, value in attack._asdict().items()},
        **{f"{name}_auroc": round(each.auroc.value, 3) for name, each in found.attacks.items()},
        "nearer": rounded(near.nearer),
        "to_members": round(near.to_members, 3),
        "to_others": round(near.to_others, 3),
        "chance": round(found.chance, 3),
    }


def rounded(value: Estimate) -> list[float]:
    return [round(each, 3) for each in value]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "threads", "quick")
    add_encoder(parser, required=False)
    parser.add_argument("--space", choices=["pixels", "features"], required=True)
    parser.add_argument("--data")
    parser.add_argument("--pictures", type=int, help="members; default: 1000 in pixels, 2000 in features")
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50, help="outer steps of the distilled memory")
    parser.add_argument("--only", nargs="+", help="the names of some memories")
    parser.add_argument("--whole", action="store_true", help="accuracies of memories of all training pictures")
    parser.add_argument("--draws", type=int, default=1, help="of the noise, with --whole")
    options = parse(parser, arguments)
    if options.quick:
        vars(options).update(QUICK)
    seen = None if options.space == "pixels" else featuriser(options)
    source = options.data or ("fashion-mnist" if seen is None else "cifar10")
    dataset = load_dataset(source, featuriser=seen)
    makers = in_pixels(dataset, options.steps) if seen is None else in_features(dataset, seen.encoder)
    count = (options.pictures or (1000 if seen is None else 2000)) // len(dataset.classes)
    document: dict[str, Any] = {"data": source, "pictures": count * len(dataset.classes)}
    if options.whole:
        document["pictures"] = len(dataset.train)
        makers = {name: make for name, make in makers.items() if name in NOT_PRIVATE or name.startswith("private")}
    if options.only:
        makers = {name: make for name, make in makers.items() if name in options.only}
    for name, make in makers.items():
        pictures = divided(dataset, IMAGES["pixels"] if name == "stored" else count)
        if options.whole:
            draws = options.draws if name.startswith("private") else 1
            found = Accuracies(
                tuple(accuracy(make(dataset.train, dataset.validation, 0), dataset) for _ in range(draws))
            )
            document[name] = {"accuracy": round(found.mean, 2), "spread": round(found.spread, 2)}
        else:
            memory = make(pictures.members, pictures.others, 0)
            audited = audit(memory, dataset.classes, pictures, make, shadows=options.shadows, seed=0, device=CPU)
            document[name] = {"accuracy": accuracy(memory, dataset), **figures(audited)}
        print(f"{name}: {document[name]}", flush=True)
    print_figures(document)


if __name__ == "__main__":
    main()
