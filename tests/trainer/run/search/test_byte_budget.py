"""A budget in bytes: the file keeps within it, uses it up, and says what would fit where something does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import Storage
from tests.trainer.cli.test_command_line import SMALL, run
from trainer.data.datasets import ImageDataset
from trainer.methods.named import compose
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.problem import Problem
from trainer.run.progress import RunLimits, RunState, Validation
from trainer.run.publisher import Publisher
from trainer.run.search.byte_budget import RESERVED, ByteBudget
from trainer.run.setup.build import fit_preprocessing
from trainer.run.setup.request import DistillRequest

CPU = torch.device("cpu")


def within(dataset: ImageDataset, file_bytes: int, *overrides: str, method: str = "window") -> ByteBudget:
    return ByteBudget(file_bytes, "bars", CPU, dataset, compose(method, overrides))


def written(limit: ByteBudget, budget: MemoryBudget, progress: RunState | None = None) -> bytes:
    """The file of a memory of that budget."""
    method = limit.method.varied(start="noise")
    preprocessing = fit_preprocessing(limit.dataset, method)
    problem = Problem(limit.dataset, preprocessing, torch.Generator().manual_seed(1), CPU)
    components = method.build(problem, budget)
    output, limits = Path("bars.safetensors"), RunLimits(0)
    request = DistillRequest(limit.dataset, method, budget, output, 0, CPU, limits, resume=False)
    return Publisher(request, components, preprocessing).draft(components.tensors(), progress or RunState()).data


@pytest.mark.parametrize("storage", get_args(Storage))
@pytest.mark.parametrize("method", ["window", "bptt"])
def test_the_file_fits_the_budget_and_a_few_more_rows_would_not(
    bars_dataset: ImageDataset, storage: Storage, method: str
) -> None:
    limit = within(bars_dataset, 20_000, f"memory.storage={storage}", "preprocessing=standardise", method=method)
    budget = limit.fit(4, None)
    assert len(written(limit, replace(budget, file_bytes=None))) <= 20_000 - RESERVED
    assert len(written(limit, budget)) < 20_000
    more = replace(budget, rows=budget.rows + 4, images_per_class=2 * budget.images_per_class, file_bytes=None)
    assert len(written(limit, more)) > 20_000 - RESERVED


def test_rows_are_a_multiple_of_what_a_stored_image_recalls(bars_dataset: ImageDataset) -> None:
    limit = within(bars_dataset, 20_000, "memory=multi_formation", "preprocessing=standardise", method="bptt")
    budget = limit.fit(0, None)
    assert budget.rows % 4 == 0
    assert len(written(limit, replace(budget, file_bytes=None))) <= 20_000 - RESERVED


def test_smaller_number_formats_allow_more_rows(bars_dataset: ImageDataset) -> None:
    rows = [within(bars_dataset, 20_000, f"memory.storage={each}").fit(4, None).rows for each in get_args(Storage)]
    assert rows[1] > 1.9 * rows[0] and rows[2] > 1.9 * rows[1]


def test_a_refused_size_names_the_largest_that_fits(bars_dataset: ImageDataset) -> None:
    limit = within(bars_dataset, 6_000)
    with pytest.raises(ValueError, match=r"500 bases and 1 rows take a file of \d+ bytes, more than 6000") as refused:
        limit.fit(500, None)
    most = int(str(refused.value).split("at most ")[1].split()[0])
    assert limit.fit(most, None).rows >= 1
    with pytest.raises(ValueError, match="try with at most"):
        limit.fit(most + 1, None)


def test_a_budget_too_small_for_any_memory_is_refused_with_the_smallest(bars_dataset: ImageDataset) -> None:
    with pytest.raises(ValueError, match=r"more than 100; all but the memory takes \d+ of them, so allow more bytes"):
        within(bars_dataset, 100).fit(2, None)
    with pytest.raises(ValueError, match="a memory needs one basis or more, not 0"):
        within(bars_dataset, 10_000).fit(0, None)
    with pytest.raises(ValueError, match=r"1 stored images of each class take a file .*; allow more bytes"):
        within(bars_dataset, 100, "preprocessing=standardise", method="bptt").fit(0, None)


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_best_point(bars_dataset: ImageDataset) -> None:
    limit = within(bars_dataset, 8_000)
    points = [Validation(step, 60.0 * step, (0.5 + 0.4 * (step == 77),)) for step in range(200)]
    progress = RunState(step=199, seconds=12_000.0, version=3, history=points)
    data = written(limit, limit.fit(4, None), progress)
    assert len(data) <= 8_000
    kept = MemoryBundle.from_bytes(data).manifest.progress
    assert kept is not None
    steps = [point.outer_steps for point in kept.validation]
    assert {0, 77, 199} <= set(steps) and 4 < len(steps) < 200


def test_a_curve_that_fits_is_kept_whole(bars_dataset: ImageDataset) -> None:
    limit = within(bars_dataset, 8_000)
    progress = RunState(history=[Validation(step, 1.0, (0.5,)) for step in range(3)])
    kept = MemoryBundle.from_bytes(written(limit, limit.fit(4, None), progress)).manifest.progress
    assert kept is not None and len(kept.validation) == 3


def test_a_run_of_the_command_writes_a_file_within_its_bytes(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bars.safetensors"
    budget = "--bytes 5000 --bases 4 --storage int8 --outer-steps 4 --validate-every 2".split()
    run("distill", "--dataset", str(bars_folder), "--output", str(path), *SMALL, *budget, "--set", "retraining.steps=5")
    bundle = MemoryBundle.load(path)
    assert path.stat().st_size <= 5_000
    assert bundle.storage == "int8"
    made = bundle.manifest.provenance.hyper_parameters
    assert (made["memory.storage"], made["file_bytes"]) == ("int8", 5_000)


def test_an_instant_memory_fits_its_bytes(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bars.safetensors"
    small = (
        "--set retraining.network=convnet:filters=8,depth=2 --set objective.network=convnet:filters=4,depth=2".split()
    )
    options = ["--bytes", "4500", "--method", "principal", "--storage", "bfloat16", *small]
    run("distill", "--dataset", str(bars_folder), "--output", str(path), *options, "--set", "retraining.steps=5")
    assert path.stat().st_size <= 4_500
    assert MemoryBundle.load(path).storage == "bfloat16"
