"""The benchmarks of instant memories, in their quick form: they end in one line of JSON with the figures promised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import (
    across,
    added_classes,
    bear_and_deer,
    encoder,
    instant,
    kernel_regression,
    matching,
    photographs,
    predictions,
    step,
)
from benchmarks.out_of_set import auroc
from benchmarks.start import at_every_minute
from recall_server.core.networks.kernels import native_blocks
from tests.suite.needs import NO_COMPILER


def last_line(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_instant_keeps_its_cells_and_runs_none_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    instant.main(["--quick", "--runs", "1", "--results", str(results)])
    (cell,) = last_line(capsys)["cells"].values()
    assert {"seconds", "accuracy", "accuracy_random_real", "accuracy_herding"} <= cell.keys()
    assert 0.3 < cell["accuracy"] <= 1
    results.write_text(results.read_text().replace(str(cell["accuracy"]), "0.125"))
    instant.main(["--quick", "--runs", "1", "--results", str(results)])
    assert last_line(capsys)["cells"]["digits 1"]["accuracy"] == 0.125


def test_added_classes_store_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    added_classes.main(["--quick", "--runs", "1"])
    figures = last_line(capsys)
    assert figures["numbers_stored"] == figures["numbers_stored_added"]
    assert figures["accuracy_added"] > 0.3


def test_kernel_regression_from_distilled_pictures_is_compared_with_real_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kernel_regression.main(["--quick", "--images-per-class", "1"])
    figures = last_line(capsys)
    assert figures["accuracy"] > figures["accuracy_random_real"] + 0.05


def test_a_curve_is_sampled_at_every_tenth_as_the_best_so_far() -> None:
    assert at_every_minute([[0.0, 0.5], [2.0, 0.4], [3.5, 0.7]], 5.0) == [0.5] * 6 + [0.7] * 4


def test_pairs_across_two_memories_are_compared_with_the_same_pairs_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    across.main(["--quick", "--pairs", "3"])
    figures = last_line(capsys)
    assert figures["pairs"] == 3
    assert figures["points_lost"] == pytest.approx(
        100 * (figures["accuracy_together"] - figures["accuracy_across"]), abs=0.02
    )
    assert figures["accuracy_across"] > 0.7


@pytest.mark.process
def test_a_classifier_of_names_over_http_is_compared_with_real_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    bear_and_deer.main(["--quick"])
    figures = last_line(capsys)
    assert (figures["recall_status"], figures["bundles"], figures["test_pictures"]) == (200, ["digits"], 72)
    assert figures["accuracy"] > 0.8
    assert {"accuracy_random_real", "accuracy_all_real", "seconds"} <= figures.keys()


@pytest.mark.process
def test_predictions_over_http_are_compared_with_the_bare_network(capsys: pytest.CaptureFixture[str]) -> None:
    predictions.main(["--quick"])
    network = last_line(capsys)["network"]
    assert all(network[kind]["pictures_per_second"] > 1 for kind in ("one_caller", "many_callers", "large_requests"))
    assert network["bare"]["batches_of_32"] > 1


@pytest.mark.process
def test_the_waits_of_a_person_with_photographs_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    photographs.main(["--quick"])
    figures = last_line(capsys)
    assert 0 < figures["encode_seconds"] < figures["pictures_seconds"]
    assert figures["labels_seconds"] > 0


def test_the_encoders_device_is_reported_with_its_speed(capsys: pytest.CaptureFixture[str]) -> None:
    encoder.main(["--quick", "--threads", "1"])
    figures = last_line(capsys)
    assert figures["provider"] == "CPUExecutionProvider"
    assert figures["encoded_per_second"] > 10


def test_a_step_by_hand_is_compared_with_autograd(capsys: pytest.CaptureFixture[str]) -> None:
    if native_blocks() is None:
        pytest.skip(NO_COMPILER)
    threads = torch.get_num_threads()
    try:
        step.main(["--quick"])
    finally:
        torch.set_num_threads(threads)
    figures = last_line(capsys)
    assert set(figures["seconds"]) >= {"by_hand", "reverse", "torch_convolutions", "autograd"}
    assert all(seconds > 0 for seconds in figures["seconds"].values())


def test_auroc_counts_ties_by_halves() -> None:
    assert auroc(torch.tensor([0.1, 0.5]), torch.tensor([0.7, 0.9])) == 1
    assert auroc(torch.tensor([0.5, 0.5]), torch.tensor([0.5])) == 0.5
    assert auroc(torch.tensor([0.2, 0.6]), torch.tensor([0.4, 0.1])) == 0.25


def test_matching_objectives_stand_beside_the_same_written_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        matching.main(["--quick", "--repeats", "1"])
    finally:
        torch.set_num_threads(threads)
    figures = last_line(capsys)["objectives"]
    assert list(figures) == ["gradient", "distribution", "trajectory"]
    assert all(each["times_plain"] > 0 for each in figures.values())
