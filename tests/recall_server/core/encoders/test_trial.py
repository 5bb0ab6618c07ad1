"""Encoders are tried in a process that can be killed: whatever one costs, the process of the server does not pay it."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hostile_files import hungry_encoder
from recall_server.core.encoders import query_encoder
from recall_server.core.encoders.onnx_session import cpu_session, run_session
from recall_server.core.encoders.query_encoder import load_encoder
from recall_server.core.encoders.trial import try_encoder
from recall_server.core.io.killable import WorkLimits
from recall_server.errors import InvalidBundle, UnsupportedQuery
from tests.recall_server.serving_examples import column_encoder

pytestmark = pytest.mark.process

LIMITS = WorkLimits(processor_seconds=2.0, seconds=120.0, memory=2**29)
TOO_LONG = {"numbers": 2**24, "repeats": 5000}
TOO_LARGE = {"numbers": 2**36, "repeats": 1}


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("cost", [TOO_LONG, TOO_LARGE], ids=["time", "memory"])
def test_an_encoder_that_takes_too_much_time_or_memory_is_refused(cost: dict[str, int], *, constant: bool) -> None:
    with pytest.raises(InvalidBundle, match="too much time or memory|fails on two plain|no ONNX file"):
        try_encoder(hungry_encoder(**cost, constant=constant), "hungry.onnx", limits=LIMITS)


def test_ordinary_encoders_pass() -> None:
    try_encoder(column_encoder(), "columns.onnx")
    try_encoder(hungry_encoder(2**10, 3), "modest.onnx", limits=LIMITS)


def test_an_encoder_that_the_runtime_refuses_is_named() -> None:
    with pytest.raises(InvalidBundle, match=r"the query encoder x\.onnx is no ONNX file that onnxruntime can run"):
        try_encoder(column_encoder().replace(b"MatMul", b"MatNil"), "x.onnx")


def test_an_encoder_is_tried_once_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(query_encoder, "try_encoder", lambda model, name, shape: tried.append(name))
    data = column_encoder()
    path, digest = tmp_path / "columns.onnx", hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    monkeypatch.setattr(query_encoder, "_tried", set())
    monkeypatch.setattr(query_encoder, "_loaded", {})
    first = load_encoder(path, digest, device="cpu")
    assert load_encoder(path, digest, device="cpu") is first
    assert tried == ["columns.onnx"]


def test_a_run_that_takes_too_long_is_aborted() -> None:
    session = cpu_session(hungry_encoder(**TOO_LONG, bright=True))
    grey = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
    assert run_session(session, "queries", grey).shape == (2, 3)
    before, began = threading.active_count(), time.monotonic()
    with pytest.raises(UnsupportedQuery, match=r"takes longer than 0\.5 seconds for these pictures"):
        run_session(session, "queries", np.ones_like(grey), seconds=0.5)
    assert time.monotonic() - began < 60
    assert threading.active_count() <= before
