"""The benchmark of a stream's outer step: three ways, one gradient."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import stream_step
from tests.tolerances import rounding


def test_all_implementations_are_timed_and_agree(capsys: pytest.CaptureFixture[str]) -> None:
    stream_step.main(["--quick"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["milliseconds"]
    assert len(found) == 4
    for figures in found.values():
        assert min(figures["pictures"], figures["coordinates"], figures["native"]) > 0
        assert figures["gradient_difference"] < rounding(torch.float32, terms=10 * 28 * 28)  # steps and pixels
