"""Writes the pages that are made from data: python docs/generate.py

artifacts/RESULTS.md   what the manifests of the bundles say about how good they are and how they were made
artifacts/bundles/     a card beside every bundle
docs/settings.md       every setting of the server

The suite fails where one of them is not what this would write.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from recall_server.config.settings import Settings
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Manifest
from recall_server.core.io.atomic import write_atomically
from recall_server.core.reports.bundle_card import bundle_card
from trainer.evaluation.report import HERDED, RANDOM
from trainer.evaluation.results_file import evaluations, file_of, memory_digest

ROOT = Path(__file__).resolve().parent.parent
BUNDLES = ROOT / "artifacts" / "bundles"
POINTS = 6  # of a validation curve that are shown

RESULTS_HEAD = """# Results

What the bundles of this repository say about themselves: this page is made from their manifests by
`python docs/generate.py`. Accuracy is the mean of fresh networks with their standard deviation, on test pictures, and
"numbers" counts bases and addressing matrices. Random and herded real pictures, as many as the same number of stored
floats holds, were measured in the same run, where the JSON beside the bundle has them (`recall-trainer evaluate
--record`). Everything about speed stands in the README, each with its command.
"""
SETTINGS_HEAD = """# Settings

Of `recall-server`, made from `recall_server/config/settings.py` by `python docs/generate.py`. Each can be set in the
environment or as a flag (`RECALL_QUEUE_LIMIT=32` or `--queue-limit 32`), of `serve`, `lock` and `doctor` alike; a flag
wins. `make serve` passes the environment on, and flags by `make serve ARGS="--port 9000"`.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; what could be read as markup in a cell is escaped."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def cell(text: object) -> str:
    """Text of a manifest as it is: no markup in it."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in str(text))
    return " ".join(escaped.split())


def per_cent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def results(bundles: Iterable[MemoryBundle]) -> str:
    """The page about some bundles."""
    found = list(bundles)
    overview = table(
        ("bundle", "from", "asked by", "images per class", "numbers", "bytes", "bytes of the original"),
        [
            (
                f"`{bundle.manifest.name}`",
                cell(bundle.manifest.provenance.dataset),
                bundle.manifest.queries,
                f"{bundle.manifest.budget.images_per_class:g}",
                f"{bundle.manifest.budget.numbers_stored:,}",
                f"{bundle.file_bytes or 0:,}",
                f"{bundle.manifest.budget.dataset_bytes:,}",
            )
            for bundle in found
        ],
    )
    return "\n".join([RESULTS_HEAD, overview, *map(_section, found)])


def _section(bundle: MemoryBundle) -> str:
    manifest, made = bundle.manifest, bundle.manifest.provenance
    beside = _baselines(bundle)
    accuracy = table(
        ("accuracy, %", "±", "random real, %", "herded real, %", "networks", "network", "protocol", "on"),
        [
            (
                per_cent(row.mean),
                per_cent(row.spread),
                *beside.get((row.network, row.protocol, row.data), ("", "")),
                str(row.runs),
                f"`{row.network}`",
                cell(row.protocol),
                cell(row.data),
            )
            for row in manifest.accuracy
        ],
    )
    facts = {
        "labels": cell(", ".join(manifest.labels)),
        "memory": f"{cell(manifest.memory.kind)}, {_shapes(bundle)}",
        "retraining": f"`{manifest.retraining.network}`, {manifest.retraining.steps} steps at "
        f"{manifest.retraining.learning_rate:g}, {manifest.retraining.decay}, "
        f"{manifest.retraining.rows_per_class} rows a class, augmentation {manifest.retraining.augmentation}"
        + (", from the encoder's layers" if manifest.retraining.initial == "encoder" else ""),
        "made by": f"method `{made.method}`, {made.outer_steps:,} outer steps in {made.seconds / 60:.0f} minutes, seed "
        f"{made.seed}, on {cell(made.device)}, {cell(made.date)}",
        "validation": _curve(manifest),
        "data": f"{cell(made.dataset)}: {cell(made.dataset_licence)}",
        "sha256": f"`{bundle.sha256}`",
    }
    return f"## {manifest.name}\n\n{accuracy}\n{table(('what', 'value'), facts.items())}"


def _baselines(bundle: MemoryBundle) -> dict[tuple[str, str, str], tuple[str, str]]:
    """(network, protocol, data) -> accuracies on real pictures, where the file beside the bundle has them."""
    path = file_of(BUNDLES / f"{bundle.manifest.name}.safetensors")
    if not path.exists():
        return {}
    found = {}
    for evaluation in evaluations(path, memory_digest(bundle)):
        means = {result["trained_on"]: per_cent(result["mean"]) for result in evaluation["results"]}
        kind = evaluation["network"], evaluation["protocol"], evaluation["data"]
        found[kind] = means.get(RANDOM, ""), means.get(HERDED, "")
    return found


def _shapes(bundle: MemoryBundle) -> str:
    return ", ".join(f"{name} {cell(list(tensor.shape))}" for name, tensor in bundle.memory.tensors().items())


def _curve(manifest: Manifest) -> str:
    """Some points of the validation curve, first and last among them."""
    points = manifest.progress.validation if manifest.progress else ()
    if not points:
        return "not recorded"
    shown = sorted({round(number * (len(points) - 1) / (POINTS - 1)) for number in range(POINTS)})
    said = (f"{100 * points[index].accuracy:.1f} % at {points[index].minutes:.0f} min" for index in shown)
    return f"{', '.join(said)} ({len(points)} points)"


def settings() -> str:
    """The page about the settings."""
    rows = [
        (f"`RECALL_{name.upper()}`", f"`--{name.replace('_', '-')}`", _default(field.default), f"{field.description}")
        for name, field in Settings.model_fields.items()
    ]
    return f"{SETTINGS_HEAD}\n{table(('variable', 'flag', 'default', 'what it is'), rows)}"


def _default(value: Any) -> str:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return f"`{text}`" if text else "none"


def pages() -> dict[Path, str]:
    """What every generated page should hold."""
    paths = sorted(BUNDLES.glob("*.safetensors"), key=lambda path: path.stem)
    bundles = [MemoryBundle.load(path) for path in paths]
    cards = {path.with_suffix(".md"): bundle_card(bundle) for path, bundle in zip(paths, bundles, strict=True)}
    generated = {ROOT / "artifacts" / "RESULTS.md": results(bundles), ROOT / "docs" / "settings.md": settings()}
    return generated | cards


def main() -> None:
    """Write all of them."""
    for path, text in pages().items():
        write_atomically(path, text.encode())


if __name__ == "__main__":
    main()
