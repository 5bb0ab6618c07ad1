"""A run that several processes share is the run of one process with as many networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from tests.tolerances import assert_close
from trainer.run.parallel.distributed import ALONE, Processes, process_is_first, processes

TINY = [
    "objective.network=convnet:filters=8,depth=2", "retraining.network=convnet:filters=8,depth=2",
    "objective.steps=4", "objective.window=2", "objective.real_batch=40", "objective.eager=true", "outer.draws=2",
]  # fmt: skip


def distill(output: Path, *more: str, ranks: int | None = None) -> subprocess.CompletedProcess[str]:
    launcher = [] if ranks is None else ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"]
    command = [sys.executable, "-m", *launcher, "trainer", "distill", "--dataset", "digits", "--output", str(output)]
    command += ["--images-per-class", "1", "--bases", "4", "--threads", "1", "--device", "cpu", "--outer-steps", "3"]
    command += [word for override in TINY for word in ("--set", override)]
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False)


@pytest.mark.process
def test_two_processes_learn_the_same_as_one_with_as_many_draws(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone.safetensors", tmp_path / "shared.safetensors"
    assert distill(alone).returncode == 0
    done = distill(shared, "--metrics", str(tmp_path / "metrics.jsonl"), ranks=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sha256") == 1  # one of them speaks
    assert sum('"step"' in line for line in (tmp_path / "metrics.jsonl").read_text().splitlines()) >= 3
    one, two = MemoryBundle.load(alone), MemoryBundle.load(shared)
    assert_close(two.memory.tensors(), one.memory.tensors(), terms=2 * 40 * 64)  # pixels of two networks' pictures
    assert [path.suffix for path in tmp_path.iterdir() if path.stem == "shared"] == [".safetensors"]


def test_draws_that_cannot_be_shared_evenly_are_refused() -> None:
    three = Processes(torch.device("cpu"), number=1, count=3)
    assert list(three.share(6)) == [2, 3]
    with pytest.raises(ValueError, match="4 draws cannot be shared by 3 processes; use --set outer.draws=6"):
        three.share(4)


def test_a_single_process_needs_no_communication() -> None:
    tensor = torch.ones(3)
    ALONE.all_reduce([tensor])
    ALONE.wait()
    assert tensor.tolist() == [1, 1, 1]
    assert ALONE.broadcast([1.5, 0]) == [1.5, 0]


def test_the_number_of_processes_comes_from_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_is_first()
    assert processes() == 1
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not process_is_first()
    assert processes() == 2
