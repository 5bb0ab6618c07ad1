"""The pool of training processes: one worker for each device."""

from __future__ import annotations

import pytest
import torch

from recall_server.jobs.workers.local import _devices


def test_one_worker_is_given_to_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _devices("cpu", 0) == ["cpu"]
    assert _devices("cpu", 2) == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _devices("auto", 0) == ["cuda:0", "cuda:1"]
    assert _devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert _devices("cuda:1", 0) == ["cuda:1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert _devices("auto", 0) == ["cpu"]
    assert _devices("cuda", 0) == ["cuda"], "what was asked for and is not there fails loudly"
