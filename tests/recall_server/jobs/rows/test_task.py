"""Training tasks: what survives being sent to another process, and when two are the same."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from pytest import MonkeyPatch

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.encoders.weights import all_but_the_last
from recall_server.core.networks import build_network
from recall_server.jobs.rows.task import TrainingTask, code_of, fingerprint
from tests.recall_server.job_examples import training_task


def test_a_serialised_task_trains_to_the_same_file(tmp_path: Path) -> None:
    sent = training_task()
    received = TrainingTask.from_bytes(sent.to_bytes())
    assert received.to_bytes() == sent.to_bytes()
    trained = sent.train(device="cpu")
    assert received.train(device="cpu") == trained
    (tmp_path / "one").write_bytes(trained)
    assert FreshClassifier.load(tmp_path / "one").extra == {"bundle": "x", "trained_by": code_of("cpu")}


def test_a_classifier_says_whether_a_compiler_was_there(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("recall_server.jobs.rows.task.prepare", lambda: False)
    (tmp_path / "one").write_bytes(training_task().train(device="cpu"))
    assert FreshClassifier.load(tmp_path / "one").extra["trained_by"].endswith(", cpu, operations of torch")


def test_a_clock_that_is_wrong_by_an_hour_changes_no_classifier(monkeypatch: MonkeyPatch) -> None:
    trained, clock = training_task().train(device="cpu"), time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 3600)
    assert training_task().train(device="cpu") == trained


def test_a_task_includes_pretrained_layers() -> None:
    task = training_task()
    warm = task.description.retraining.model_copy(update={"initial": "encoder"})
    network = build_network(warm.network, (1, 8, 8), 5)
    learned = all_but_the_last(network.initialise(torch.Generator().manual_seed(0)))
    description = task.description.model_copy(update={"retraining": warm})
    sent = replace(task, description=description, pretrained=learned)
    received = TrainingTask.from_bytes(sent.to_bytes())
    assert received.to_bytes() == sent.to_bytes()
    assert received.train(device="cpu") == sent.train(device="cpu")
    assert fingerprint(sent.to_bytes()) != fingerprint(task.to_bytes())


def test_tasks_have_the_same_fingerprint_exactly_if_they_give_the_same_classifier(monkeypatch: MonkeyPatch) -> None:
    first = fingerprint(training_task().to_bytes())
    assert first == fingerprint(training_task().to_bytes())
    assert first != fingerprint(training_task(seed=4).to_bytes())
    monkeypatch.setattr("recall_server.jobs.rows.task.training_code_version", lambda: "another")
    assert first != fingerprint(training_task().to_bytes())
