"""The benchmark of privacy: it catches a memory of real pictures, and compares as many members as others."""

from __future__ import annotations

import json

import pytest

from benchmarks import privacy
from trainer.data.datasets import load_dataset


def test_memories_of_pixels_are_attacked(capsys: pytest.CaptureFixture[str]) -> None:
    privacy.main(["--space", "pixels", "--data", "digits", "--quick"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"stored", "random", "instant", "distilled", "private 8", "private 1"} <= figures.keys()
    assert figures["stored"]["auroc"][1] > 0.9
    assert figures["stored"]["to_members"] == 0 < figures["stored"]["to_others"]


def test_members_and_others_are_disjoint_and_of_the_same_classes() -> None:
    found = privacy.divided(load_dataset("digits"), 20)
    assert found.members.labels.bincount().tolist() == found.others.labels.bincount().tolist() == [20] * 10
    assert len(found.pool.images.flatten(1).unique(dim=0)) == 400
