"""Writes the pages that are made from data: python docs/generate.py

docs/results.md         every line of benchmarks/results.jsonl, in groups
docs/grid.md            every cell in benchmarks/grid.jsonl
docs/settings.md        every setting of the server
artifacts/RESULTS.md    accuracy and provenance of the committed bundles, from their manifests
artifacts/bundles/      a card beside every bundle

The test suite fails where a page is not what this program would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from recall_server.config.settings import Settings
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Manifest
from recall_server.core.io.atomic import write_atomically
from recall_server.core.reports.bundle_card import bundle_card
from trainer.evaluation.grid.table import Table
from trainer.evaluation.report import HERDED, RANDOM
from trainer.evaluation.results_file import evaluations, file_of, memory_digest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed

from benchmarks import grid_cells  # noqa: E402
from benchmarks.grid_cells import RecordedCell  # noqa: E402
from benchmarks.results import GROUPS, Measurement, read  # noqa: E402

BUNDLES = ROOT / "artifacts" / "bundles"
POINTS = 6  # shown of a validation curve

MEASUREMENTS_HEAD = """# Results

This page has one row for each line of `benchmarks/results.jsonl`; `python docs/generate.py` writes it. Every figure was
printed by the command in its row, and the baseline comes from the same run. Accuracies are percentages on test pictures
unless a row says otherwise, and ± is a standard deviation between networks or a confidence interval between tasks.
[How accuracy is measured](accuracy.md) explains the protocols, and [Committed bundles](bundles.md) has the manifests.

Each group of accuracies states its space. In **pixel space** a network is trained from scratch on recalled images.
In **feature space** a head is trained on the features of a pre-trained encoder, which has seen other pictures before.
Figures of the two spaces never share a table.

To add or replace a row, run the benchmark through `python -m benchmarks.results --record GROUP`, which also keeps all
figures of the run in the file. The figures of a row whose date has a † were copied by hand from what the command
printed.
"""
SPACES = {
    "pixels": "Space: pixels, no pre-trained encoder.",
    "features": "Space: features of a pre-trained encoder.",
    "none": "",
}
BUNDLES_HEAD = """# Committed bundles

This page is made from the manifests of the bundles in `artifacts/bundles` by `python docs/generate.py`. Accuracy is the
mean over fresh networks with its standard deviation, on test pictures. "Numbers" counts bases and addressing matrices.
The baselines are random and herded real pictures of the same size in floats, measured in the same run
(`recall-trainer evaluate --record`). Bundles in the space
`features` hold vectors of an encoder that was pre-trained on other pictures; their accuracy must not be compared with
that of bundles in the space `pixels`, for which no other picture was seen.
"""
SETTINGS_HEAD = """# Settings

The settings of `recall-server`, made from `recall_server/config/settings.py` by `python docs/generate.py`. Each setting
is an environment variable and a flag of `serve`, `lock` and `doctor` (`RECALL_QUEUE_LIMIT=32` or `--queue-limit 32`).
A flag overrides the variable. `make serve` passes the environment on, and flags with `make serve ARGS="--port 9000"`.
"""


GRID_HEAD = """# The grid

Methods under one protocol, each with the same minutes of one processor core. This page has the cells that are recorded
in `benchmarks/grid.jsonl`; `python docs/generate.py` writes it. [Methods](methods.md) explains the methods and the two
protocols. No pre-trained encoder is used. The baselines are `random` and `herding`: real pictures of the same number.

<!-- not executed: distills for hours -->

```shell
python -m benchmarks.grid_cells --give grid
recall-trainer grid --datasets fashion-mnist --images-per-class 1 --minutes 10 --runs 3 --output grid
python -m benchmarks.grid_cells --take grid
```

The first command gives a grid the recorded cells, the second runs those that are missing, and the third records them.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table. Cells must be escaped already, see `cell`."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def cell(text: object) -> str:
    """Return the text of a manifest with all markup escaped, on one line."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in str(text))
    return " ".join(escaped.split())


def per_cent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def measurements(rows: Iterable[Measurement]) -> str:
    """Return the page of recorded measurements: a table for each group that has rows, in the order of the groups."""
    found = list(rows)
    used = {row.group for row in found}
    return "\n".join([MEASUREMENTS_HEAD, *(_group(key, found) for key in GROUPS if key in used)])


def _group(key: str, rows: Iterable[Measurement]) -> str:
    group = GROUPS[key]
    cells = [
        (row.what, row.measured, row.baseline, row.device, _date(row), f"`{row.command}`".replace("|", "\\|"))
        for row in rows
        if row.group == key
    ]
    sentences = " ".join(filter(None, (SPACES[group.space], group.sentence)))
    head = ("what", "measured", "baseline", "device", "date", "command")
    return f"## {group.title}\n\n{sentences}\n\n{table(head, cells)}"


def grid(cells: Iterable[RecordedCell]) -> str:
    """Return the page of the recorded cells of the grid."""
    found = list(cells)
    devices = ", ".join(sorted({cell.device for cell in found}))
    dates = sorted(cell.date for cell in found)
    made = f"* Made from {dates[0]} to {dates[-1]} on {devices}.\n"
    return f"{GRID_HEAD}\n{Table(cell.record for cell in found).markdown()}{made}"


def _date(row: Measurement) -> str:
    return f"{row.date}" if row.figures else f"{row.date} †"


def committed_bundles(bundles: Iterable[MemoryBundle]) -> str:
    """Return the page about the accuracy and provenance of some bundles."""
    found = list(bundles)
    overview = table(
        ("bundle", "from", "space", "addressed by", "images per class", "numbers", "bytes", "bytes of the original"),
        [
            (
                f"`{bundle.manifest.name}`",
                cell(bundle.manifest.provenance.dataset),
                bundle.manifest.space,
                bundle.manifest.queries,
                f"{bundle.manifest.budget.images_per_class:g}",
                f"{bundle.manifest.budget.numbers_stored:,}",
                f"{bundle.file_bytes or 0:,}",
                f"{bundle.manifest.budget.dataset_bytes:,}",
            )
            for bundle in found
        ],
    )
    return "\n".join([BUNDLES_HEAD, overview, *map(_section, found)])


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
        f"{manifest.retraining.rows_per_class} rows per class, augmentation {manifest.retraining.augmentation}"
        + (", from the encoder's layers" if manifest.retraining.initial == "encoder" else ""),
        "made by": f"method `{made.method}`, {made.outer_steps:,} outer steps in {made.seconds / 60:.0f} minutes, seed "
        f"{made.seed}, on {cell(made.device)}, {cell(made.date)}",
        "validation": _curve(manifest),
        "data": f"{cell(made.dataset)}: {cell(made.dataset_licence)}",
        "sha256": f"`{bundle.sha256}`",
    }
    return f"## {manifest.name}\n\n{accuracy}\n{table(('property', 'value'), facts.items())}"


def _baselines(bundle: MemoryBundle) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Map (network, protocol, data) to the accuracies of random and herded real pictures, if they were recorded."""
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
    """Return up to POINTS points of the validation curve, including the first and the last."""
    points = manifest.progress.validation if manifest.progress else ()
    if not points:
        return "not recorded"
    shown = sorted({round(number * (len(points) - 1) / (POINTS - 1)) for number in range(POINTS)})
    said = (f"{100 * points[index].accuracy:.1f} % at {points[index].minutes:.0f} min" for index in shown)
    return f"{', '.join(said)} ({len(points)} points)"


def settings() -> str:
    """Return the page about the settings."""
    rows = [
        (f"`RECALL_{name.upper()}`", f"`--{name.replace('_', '-')}`", _default(field.default), f"{field.description}")
        for name, field in Settings.model_fields.items()
    ]
    return f"{SETTINGS_HEAD}\n{table(('variable', 'flag', 'default', 'what it is'), rows)}"


def _default(value: Any) -> str:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return f"`{text}`" if text else "none"


def pages() -> dict[Path, str]:
    """Map the path of every generated page to its content."""
    paths = sorted(BUNDLES.glob("*.safetensors"), key=lambda path: path.stem)
    bundles = [MemoryBundle.load(path) for path in paths]
    cards = {path.with_suffix(".md"): bundle_card(bundle) for path, bundle in zip(paths, bundles, strict=True)}
    return cards | {
        ROOT / "docs" / "grid.md": grid(grid_cells.read()),
        ROOT / "docs" / "results.md": measurements(read()),
        ROOT / "docs" / "settings.md": settings(),
        ROOT / "artifacts" / "RESULTS.md": committed_bundles(bundles),
    }


def main() -> None:
    """Write all generated pages."""
    for path, text in pages().items():
        write_atomically(path, text.encode())


if __name__ == "__main__":
    main()
