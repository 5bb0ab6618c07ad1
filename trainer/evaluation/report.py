"""The output of `evaluate`, `inspect` and `card`: accuracies beside baselines, manifests, cards and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import MeasuredAccuracy, RunProgress, first_fault
from recall_server.core.io.atomic import write_atomically
from recall_server.core.networks import NetworkSpec, build_network
from recall_server.core.reports.bundle_card import bundle_card
from recall_server.core.reports.contact_sheet import contact_sheet
from recall_server.core.training.retraining import Retraining
from recall_server.errors import InvalidDataset
from trainer.data.datasets import ImageDataset, Split
from trainer.evaluation.evaluate import (
    Accuracies,
    Compute,
    Runs,
    Way,
    at_full_size,
    compared,
    evaluate_labels,
    evaluate_pictures,
    evaluate_real,
    herded,
    interval_of,
    real_rows,
)
from trainer.evaluation.few_shot.episodes import FewShot, draw_episode, evaluate_few_shot, largest_task
from trainer.evaluation.protocol import Protocol
from trainer.evaluation.results_file import Measured, add, evaluations, file_of, memory_digest
from trainer.evaluation.robustness import attackable, with_attacked
from trainer.output.plots.sheets import picture_rows

WAYS, SHOTS, TESTS = 2, 5, 200
FEW_PICTURES = 30  # test pictures that say little of an accuracy
RECALLED = "recalled"
RANDOM = "random real images, same number of floats"
HERDED = "herded real images, same number of floats"


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a bundle on the test set of its data, by `protocol` with the network of `retraining`.

    `compute` is where the networks of all seeds are trained, if labels address the bundle.
    """

    path: Path
    bundle: MemoryBundle
    dataset: ImageDataset
    retraining: Retraining
    protocol: Protocol
    seeds: Sequence[int]
    device: torch.device
    compute: Compute

    def schedules(self) -> dict[str, Retraining]:
        """The schedule for networks trained on each of the things that are compared."""
        queries, rows = len(self.dataset.classes), self.bundle.memory.rows
        if self.bundle.manifest.queries == "images":
            return {RECALLED: self.protocol.schedule(self.retraining, queries=WAYS, rows=rows)}
        full_size = at_full_size(self.retraining)
        real = self.protocol.schedule(full_size, queries=queries, rows=real_rows(self.bundle))
        recalled = self.protocol.schedule(self.retraining, queries=queries, rows=rows)
        return {RECALLED: recalled, RANDOM: real, HERDED: real}

    def label_addressed(self) -> dict[str, Accuracies]:
        """Accuracy on all classes, beside random and herded real images with the same number of stored floats."""
        bundle, test = self.bundle, self.dataset.test
        of_herded = partial(evaluate_pictures, bundle, herded(bundle, self.dataset.train), test)
        return compared(self._ways(test) | {HERDED: (of_herded, self._runs(HERDED))}, self.compute)

    def attacked(self, test: Split, epsilon: float) -> dict[str, Accuracies]:
        """Accuracy of the same networks on these pictures as they are and under an attack within `epsilon`."""
        return compared(with_attacked(self._ways(test), epsilon), self.compute)

    def _ways(self, test: Split) -> dict[str, Way]:
        """Training on recalled and on random real images."""
        return {
            RECALLED: (partial(evaluate_labels, self.bundle, test), self._runs(RECALLED)),
            RANDOM: (partial(evaluate_real, self.bundle, self.dataset.train, test), self._runs(RANDOM)),
        }

    def _runs(self, name: str) -> Runs:
        return Runs(self.schedules()[name], self.seeds, self.device)

    def image_addressed(self, shots: int, tests: int) -> dict[str, Accuracies]:
        """Accuracy on few-shot episodes, one per seed, beside baselines that use the same pictures."""
        few_shot = FewShot.of_bundle(self.path, self.device, retraining=self.schedules()[RECALLED])
        test, classes = self.dataset.test, self.dataset.classes
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        episodes = [
            draw_episode(test, classes, ways=WAYS, shots=shots, tests=tests, generator=generator)
            for generator in generators
        ]
        known = few_shot.known_classes(self.dataset.train, len(classes))
        return evaluate_few_shot(few_shot, episodes, known)


def evaluate_bundle(
    path: Path,
    dataset: ImageDataset,
    *,
    seeds: Sequence[int],
    network: str | None,
    protocol: Protocol,
    record: bool,
    device: torch.device,
    compute: Compute,
    json_file: Path | None = None,
    robust: float | None = None,
) -> dict[str, Accuracies]:
    """Measure a bundle on the test set beside its baselines, and print the table.

    `record` writes the accuracy into the bundle and all results into the JSON beside it; `json_file` is an additional
    file for the results. With `robust`, a second table has accuracies under an attack within this epsilon. `compute` is
    where networks are trained, unless pictures address the bundle. Invalid input is refused before anything is trained.
    """
    bundle = MemoryBundle.load(path)
    require_same_pictures(bundle, dataset)
    files = [file for file in (json_file, file_of(path) if record else None) if file is not None]
    for file in filter(Path.exists, files):
        evaluations(file, memory_digest(bundle))
    retraining = _with_network(bundle, network)
    if protocol.name == "paper" and network is None:  # the paper's networks do not shrink pictures
        retraining = at_full_size(retraining)
    by_pictures = bundle.manifest.queries == "images"
    if by_pictures:  # an episode has the same size for every baseline, so there is no other protocol
        protocol = replace(protocol, name="bundle")
    evaluation = Evaluation(path, bundle, dataset, retraining, protocol, seeds, device, compute)
    schedules = evaluation.schedules()
    if by_pictures:
        shots, tests = largest_task(dataset.test, dataset.classes, ways=WAYS, shots=SHOTS, tests=TESTS)
        task, tested = f"{WAYS}-way {shots}-shot, {tests} pictures", tests * len(seeds)
        results = evaluation.image_addressed(shots, tests)
    else:
        task, tested = f"{len(dataset.classes)}-way, {len(dataset.test)} pictures", len(dataset.test)
        results = evaluation.label_addressed()
    print_accuracies(f"{path.stem} on {dataset.name} test: {task}", results, pictures=tested)
    if robust is not None:
        some = attackable(dataset.test)
        attacked, title = evaluation.attacked(some, robust), f"{path.stem} on {len(some)} pictures"
        print_accuracies(f"{title}, with and without an attack", attacked, pictures=len(some))
        results |= {name: found for name, found in attacked.items() if name not in results}
    data = f"{dataset.name} test, {task}"
    measured = Measured(str(retraining.network), str(protocol), data, seeds, device, results, schedules)
    for file in files:
        add(file, bundle, measured)
    if record:
        row = results[RECALLED].row(network=measured.network, protocol=measured.protocol, data=data)
        bundle.with_accuracy(recorded(bundle.manifest.accuracy, row)).save(path)
    return results


def _with_network(bundle: MemoryBundle, network: str | None) -> Retraining:
    """The bundle's schedule with this network. Raises ValueError for an invalid network or one that is too deep."""
    retraining = bundle.manifest.retraining
    if network is None:
        return retraining
    try:
        spec = NetworkSpec.parse(network)
    except ValidationError as error:
        raise ValueError(f"{network!r} is not a network: {first_fault(error)}") from error
    build_network(spec, bundle.manifest.image.shape, len(bundle.labels))
    if retraining.initial == "encoder" and spec != retraining.network:
        raise ValueError(
            f"classifiers of {bundle.manifest.name} start from its encoder, a {retraining.network}, and the "
            f"schedule is made for that; a {spec} cannot start from it"
        )
    return retraining.model_copy(update={"network": spec})


def recorded(rows: Sequence[MeasuredAccuracy], row: MeasuredAccuracy) -> list[MeasuredAccuracy]:
    """The measurements with a new one appended; it replaces an earlier one of the same kind."""
    kind = (row.network, row.protocol, row.data)
    return [each for each in rows if (each.network, each.protocol, each.data) != kind] + [row]


def require_same_pictures(bundle: MemoryBundle, dataset: ImageDataset) -> None:
    """Raise InvalidDataset for other pictures than the bundle's: the memory may have been trained on them."""
    made, pixels = bundle.manifest.provenance, bundle.manifest.space == "pixels"
    if added := made.hyper_parameters.get("added"):
        how = "continue with `recall-trainer distill --start`" if pixels else "make it anew"
        raise InvalidDataset(
            f"classes were added to {bundle.manifest.name} ({added}), and nothing tells which pictures it has seen: "
            f"{how} on a folder that has all of its classes, then evaluate on that folder"
        )
    if "epsilon" in made.hyper_parameters:
        raise InvalidDataset(
            f"{bundle.manifest.name} is private, and its manifest does not say which pictures it was made from, "
            "so these may be among them; its accuracy was measured when it was made"
        )
    if dataset.classes != bundle.manifest.labels or (pixels and dataset.image_shape != bundle.manifest.image.shape):
        raise InvalidDataset(
            f"{dataset.name} has other classes or another image size than the data that {bundle.manifest.name} was "
            f"made from ({made.dataset}, {bundle.manifest.image.shape})"
        )
    if dataset.digest != made.dataset_sha256:
        raise InvalidDataset(
            f"{dataset.name} has other pictures than the data that {bundle.manifest.name} was made from (sha256 "
            f"{dataset.digest[:12]} and {made.dataset_sha256[:12]}), so its test pictures may have been trained on"
        )


def print_accuracies(title: str, results: dict[str, Accuracies], *, pictures: int) -> None:
    """Print a table of accuracies on so many pictures, with their 95 % interval and their spread over runs."""
    table = Table(title=Text(title))
    for heading in ("trained on", "accuracy", "95 % interval", "spread", "runs"):
        table.add_column(heading, justify="left" if heading == "trained on" else "right")
    for name, accuracies in results.items():
        low, high = interval_of(accuracies.mean, pictures)
        spread = f"{100 * accuracies.spread:.2f}" if len(accuracies.values) > 1 else "-"
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        table.add_row(name, f"{100 * accuracies.mean:.2f}", interval, spread, str(len(accuracies.values)))
    Console().print(table)
    if pictures < FEW_PICTURES:
        Console(stderr=True).print(
            f"{pictures} test pictures say little: see the intervals, and test on more pictures", soft_wrap=True
        )


def print_manifest(path: Path) -> None:
    """Print a bundle's manifest as a table."""
    bundle = MemoryBundle.load(path)
    manifest = bundle.manifest
    made = manifest.provenance
    table = Table(title=f"{path.name}  {bundle.file_bytes:,} bytes", show_header=False)
    budget, encoder = manifest.budget, manifest.query_encoder
    rows = {
        "sha256": bundle.sha256,
        "memory": f"{manifest.memory.kind}, {_shapes(bundle)}, stored as {bundle.storage}",
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
        "run": "not recorded" if manifest.progress is None else describe_progress(manifest.progress),
        "hyper-parameters": ", ".join(f"{key}={value}" for key, value in made.hyper_parameters.items()),
        "accuracy": "\n".join(map(describe_accuracy, manifest.accuracy)) or "not measured",
    }
    table.add_column()
    table.add_column(overflow="fold")  # digests must be complete to be copied
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))  # untrusted text, which rich must not read as markup
    Console().print(table)


def describe_accuracy(row: MeasuredAccuracy) -> str:
    """An accuracy with its network, protocol and data, as one line."""
    how = f"{row.network}, {row.protocol}, {row.runs} runs"
    return f"{100 * row.mean:.2f} +- {100 * row.spread:.2f} % on {row.data} ({how})"


def describe_progress(progress: RunProgress) -> str:
    """The state of a run when the bundle was written, as one line."""
    curve = progress.validation
    text = f"version {progress.version} after {progress.minutes:.1f} minutes"
    if not curve:
        return text
    best = max(point.accuracy for point in curve)
    return f"{text}; on validation pictures {100 * curve[0].accuracy:.1f} % at the start, {100 * best:.1f} % at best"


def _shapes(bundle: MemoryBundle) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in bundle.memory.tensors().items())


def write_card(path: Path) -> Path:
    """Write the card of a bundle to NAME.md beside it, and return its path."""
    card = path.with_suffix(".md")
    write_atomically(card, bundle_card(MemoryBundle.load(path)).encode())
    return card


def write_picture(path: Path, picture: Path) -> None:
    """Write a PNG of a bundle's bases and of images recalled for its labels (or for random queries)."""
    bundle = MemoryBundle.load(path)
    write_atomically(picture, contact_sheet(picture_rows(bundle)))
