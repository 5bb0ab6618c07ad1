"""What `evaluate` and `inspect` tell a person: accuracy beside its baselines, the manifest, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recall_server.atomic import write_atomically
from recall_server.bundle import MemoryBundle
from recall_server.cards.bundle_card import bundle_card
from recall_server.contact_sheet import contact_sheet
from recall_server.errors import InvalidDataset
from recall_server.inspection import displayed_bases, has_bases, sheet_rows
from recall_server.manifest import MeasuredAccuracy, RunProgress
from recall_server.networks import NetworkSpec
from recall_server.retraining import Retraining
from trainer.datasets import ImageDataset
from trainer.evaluate import Accuracies, evaluate_labels, evaluate_real, paper_protocol, real_rows
from trainer.few_shot import FewShot, draw_episode, evaluate_few_shot, largest_task

WAYS, SHOTS, TESTS = 2, 5, 200
SHEET_LABELS, SHEET_IMAGES = 20, 10


@dataclass(frozen=True)
class Evaluation:
    """A bundle measured on the test set of the data it was made from, with `retraining` as its schedule."""

    path: Path
    bundle: MemoryBundle
    dataset: ImageDataset
    retraining: Retraining
    seeds: Sequence[int]
    device: torch.device

    def label_addressed(self, protocol: str) -> dict[str, Accuracies]:
        """All classes, by the paper's protocol or the bundle's own; beside random real images."""
        queries, rows = len(self.dataset.classes), self.bundle.memory.rows
        retraining = real = self.retraining
        if protocol == "paper":
            retraining = paper_protocol(self.retraining, queries=queries, rows=rows)
            real = paper_protocol(self.retraining, queries=queries, rows=real_rows(self.bundle))
        train, test = self.dataset.train, self.dataset.test
        return {
            "recalled": evaluate_labels(self.bundle, test, retraining=retraining, seeds=self.seeds, device=self.device),
            "random real images, same number of floats": evaluate_real(
                self.bundle, train, test, retraining=real, seeds=self.seeds, device=self.device
            ),
        }

    def few_shot_task(self) -> tuple[int, int]:
        """Shots and test pictures of an episode."""
        return largest_task(self.dataset.test, self.dataset.classes, ways=WAYS, shots=SHOTS, tests=TESTS)

    def image_addressed(self, shots: int, tests: int) -> dict[str, Accuracies]:
        """Few-shot episodes, one for every seed, beside two baselines that see the same pictures."""
        few_shot = FewShot.of_bundle(self.path, self.device, retraining=self.retraining)
        test, classes = self.dataset.test, self.dataset.classes
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        episodes = [
            draw_episode(test, classes, ways=WAYS, shots=shots, tests=tests, generator=generator)
            for generator in generators
        ]
        return evaluate_few_shot(few_shot, episodes)


def evaluate_bundle(
    path: Path,
    dataset: ImageDataset,
    *,
    seeds: Sequence[int],
    network: str | None,
    protocol: str,
    record: bool,
    device: torch.device,
) -> dict[str, Accuracies]:
    """Measure a bundle on the test set beside its baselines, print the table, and record the accuracy if asked."""
    if protocol not in ("paper", "bundle"):
        raise ValueError(f"unknown protocol {protocol!r}; use paper or bundle")
    bundle = MemoryBundle.load(path)
    _require_same_pictures(bundle, dataset)
    retraining = bundle.manifest.retraining
    if network is not None:
        retraining = retraining.model_copy(update={"network": NetworkSpec.parse(network)})
    evaluation = Evaluation(path, bundle, dataset, retraining, seeds, device)
    if bundle.manifest.queries == "images":
        shots, tests = evaluation.few_shot_task()
        task, protocol = f"{WAYS}-way {shots}-shot, {tests} pictures", "bundle"
        results = evaluation.image_addressed(shots, tests)
    else:
        task = f"{len(dataset.classes)}-way, {len(dataset.test)} pictures"
        results = evaluation.label_addressed(protocol)
    print_accuracies(f"{path.stem} on {dataset.name} test: {task}", results)
    if record:
        data = f"{dataset.name} test, {task}"
        row = results["recalled"].row(network=str(retraining.network), protocol=protocol, data=data)
        bundle.with_accuracy(recorded(bundle.manifest.accuracy, row)).save(path)
    return results


def recorded(rows: Sequence[MeasuredAccuracy], row: MeasuredAccuracy) -> list[MeasuredAccuracy]:
    """The measurements with a new one at their end; it takes the place of one of the same kind, made before."""
    kind = (row.network, row.protocol, row.data)
    return [each for each in rows if (each.network, each.protocol, each.data) != kind] + [row]


def _require_same_pictures(bundle: MemoryBundle, dataset: ImageDataset) -> None:
    """Other pictures could be a test set that the memory was trained on."""
    made = bundle.manifest.provenance
    if dataset.classes != bundle.manifest.labels or dataset.image_shape != bundle.manifest.image.shape:
        raise InvalidDataset(
            f"{dataset.name} has other classes or another image size than {bundle.manifest.name} was made from "
            f"({made.dataset}, {bundle.manifest.image.shape})"
        )
    if dataset.digest != made.dataset_sha256:
        raise InvalidDataset(
            f"{dataset.name} holds other pictures than {bundle.manifest.name} was made from (sha256 "
            f"{dataset.digest[:12]} and {made.dataset_sha256[:12]}), so its test pictures may have been trained on"
        )


def print_accuracies(title: str, results: dict[str, Accuracies]) -> None:
    """A table on stdout: accuracy with its spread over runs."""
    table = Table(title=Text(title))
    for heading in ("trained on", "accuracy", "spread", "runs"):
        table.add_column(heading, justify="left" if heading == "trained on" else "right")
    for name, accuracies in results.items():
        table.add_row(
            name, f"{100 * accuracies.mean:.2f}", f"{100 * accuracies.spread:.2f}", str(len(accuracies.values))
        )
    Console().print(table)


def print_manifest(path: Path) -> None:
    """A bundle's manifest on stdout, for people."""
    bundle = MemoryBundle.load(path)
    manifest = bundle.manifest
    made = manifest.provenance
    table = Table(title=f"{path.name}  {bundle.file_bytes:,} bytes", show_header=False)
    budget, encoder = manifest.budget, manifest.query_encoder
    rows = {
        "sha256": bundle.sha256,
        "memory": f"{manifest.memory.kind}, {_shapes(bundle)}",
        "addressed by": manifest.queries,
        "labels": ", ".join(manifest.labels),
        "images": f"{manifest.image.height}x{manifest.image.width}, {manifest.image.channels} channel(s)",
        "preprocessing": manifest.preprocessing,
        "retraining": ", ".join(
            f"{key} {getattr(manifest.retraining, key)!s}" for key in type(manifest.retraining).model_fields
        ),
        "query encoder": f"{encoder.file}, sha256 {encoder.sha256}" if encoder else "none",
        "budget": f"{budget.numbers_stored:,} numbers within {budget.images_per_class:g} images per class; original: "
        f"{budget.dataset_bytes:,} bytes, {budget.dataset_bytes / (bundle.file_bytes or 1):,.0f} times the file's",
        "made from": f"{made.dataset} ({made.dataset_licence}), sha256 {made.dataset_sha256}",
        "made by": f"{made.method}, {made.outer_steps} outer steps, {made.seconds:.0f} s on {made.device}, "
        f"seed {made.seed}, code {made.code_version}, {made.date}",
        "run": "not said" if manifest.progress is None else describe_progress(manifest.progress),
        "hyper-parameters": ", ".join(f"{key}={value}" for key, value in made.hyper_parameters.items()),
        "accuracy": "\n".join(map(describe_accuracy, manifest.accuracy)) or "not measured",
    }
    table.add_column()
    table.add_column(overflow="fold")  # digests are to be copied whole
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))  # text of strangers, which is not to be read as markup
    Console().print(table)


def describe_accuracy(row: MeasuredAccuracy) -> str:
    """An accuracy with what it was measured on and how, in one line."""
    how = f"{row.network}, {row.protocol}, {row.runs} runs"
    return f"{100 * row.mean:.2f} +- {100 * row.spread:.2f} % on {row.data} ({how})"


def describe_progress(progress: RunProgress) -> str:
    """How far a run had come, in one line."""
    curve = progress.validation
    text = f"version {progress.version} after {progress.minutes:.1f} minutes"
    if not curve:
        return text
    best = max(point.accuracy for point in curve)
    return f"{text}; on validation pictures {100 * curve[0].accuracy:.1f} % at the start, {100 * best:.1f} % at best"


def _shapes(bundle: MemoryBundle) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in bundle.memory.tensors().items())


def write_card(path: Path) -> Path:
    """The card of a bundle, NAME.md beside it."""
    card = path.with_suffix(".md")
    write_atomically(card, bundle_card(MemoryBundle.load(path)).encode())
    return card


def write_picture(path: Path, picture: Path) -> None:
    """A PNG of a bundle's bases and of images that its labels (or random queries) recall."""
    bundle = MemoryBundle.load(path)
    write_atomically(picture, contact_sheet(picture_rows(bundle)))


def picture_rows(bundle: MemoryBundle) -> list[tuple[str, NDArray[np.float32]]]:
    """(caption, images [n, C, H, W] in pixel space); bases as `displayed_bases` shows them."""
    rows: list[tuple[str, NDArray[np.float32]]] = []
    if has_bases(bundle):
        rows += sheet_rows(displayed_bases(bundle))
    if bundle.manifest.queries == "labels":
        names = bundle.manifest.labels[:SHEET_LABELS]
        recalled = bundle.memory.recall(bundle.label_queries(names))
    else:
        names = tuple(f"random query {number}" for number in range(4))
        generator = torch.Generator().manual_seed(0)
        recalled = bundle.memory.recall(torch.randn(len(names), bundle.memory.query_size, generator=generator))
    for name, images in zip(names, recalled, strict=True):
        rows.append((name, bundle.preprocessing.to_pixels(images[:SHEET_IMAGES].detach()).numpy()))
    return rows
