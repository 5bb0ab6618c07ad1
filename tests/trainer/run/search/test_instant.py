"""An instant memory: served at once, then the best of a few, all chosen on validation pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import AddressedBases
from recall_server.core.preprocessing import AbstractPreprocessing, Projected
from tests.suite.needs import needs_cuda
from trainer.data.datasets import ImageDataset
from trainer.evaluation import evaluate
from trainer.evaluation.evaluate import Accuracies
from trainer.methods.named import compose
from trainer.run.progress import RunLimits
from trainer.run.search import instant as module
from trainer.run.search.instant import budgets, instant, is_instant
from trainer.run.setup.request import DistillRequest

NARROW = [
    "objective.network=convnet:filters=4,depth=2",
    "retraining.network=convnet:filters=4,depth=2",
    "retraining.steps=3",
]


def request(dataset: ImageDataset, output: Path) -> DistillRequest:
    method = compose("principal", NARROW)
    return DistillRequest(
        dataset=dataset,
        method=method,
        budget=budgets(dataset, method, images_per_class=1)[0],
        output=output,
        seed=0,
        device=torch.device("cpu"),
        limits=RunLimits(0),
        resume=False,
    )


def scored(monkeypatch: pytest.MonkeyPatch, scores: list[tuple[float, ...]], seen: list[Path], output: Path) -> None:
    """Validation gives these scores in turn, and notes what is served at that moment."""
    waiting = iter(scores)

    def validate(*_: object) -> Accuracies:
        seen.append(output)
        assert MemoryBundle.load(output).manifest.progress is not None
        return Accuracies(next(waiting))

    monkeypatch.setattr(module, "validate", validate)


def choices(dataset: ImageDataset) -> list[tuple[int, int]]:
    return [(each.bases, each.rows) for each in budgets(dataset, compose("principal"), images_per_class=1)]


def test_budgets_are_used_up_and_never_exceeded(bars_dataset: ImageDataset) -> None:
    allowed = 3 * 64
    found = choices(bars_dataset)
    assert len(found) == 3
    for bases, rows in found:
        assert bases * (16 + 3 * rows) <= allowed < bases * (16 + 3 * (rows + 1))


def test_rows_never_exceed_the_pictures_of_a_class(bars_dataset: ImageDataset) -> None:
    large = budgets(bars_dataset, compose("principal"), images_per_class=30)
    assert max(each.rows for each in large) == 27
    assert max(each.bases for each in large) == 16, "more bases than numbers of a half-resolution image do not exist"


def test_the_first_candidate_is_written_before_any_validation(
    bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, seen = tmp_path / "bars.safetensors", list[Path]()
    scored(monkeypatch, [(0.5, 0.5)] * 7, seen, output)
    sentences: list[str] = []
    wish = request(bars_dataset, output)
    options = budgets(bars_dataset, wish.method, images_per_class=1)
    made = instant(wish, options, report=sentences.append)
    assert "written after" in sentences[0]
    assert len(seen) == 7, "half size, three budgets, then centres, flips, and more steps"
    assert made.manifest.provenance.hyper_parameters["memory.bases"] == options[0].bases, "nothing was better"
    assert made.manifest.retraining.augmentation == "none"
    progress = made.manifest.progress
    assert progress is not None
    assert (progress.version, [point.accuracy for point in progress.validation]) == (2, [0.5])


def test_a_candidate_better_by_more_than_the_noise_is_chosen(
    bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bars.safetensors"
    # Half size is worse. Bases: the second is better, the third within its noise. Centres are no better, flips are,
    # more steps are not.
    scores = [(0.5, 0.5), (0.4, 0.4), (0.6, 0.6), (0.5, 0.8), (0.6, 0.6), (0.7, 0.7), (0.7, 0.7)]
    scored(monkeypatch, scores, [], output)
    wish = request(bars_dataset, output)
    options = budgets(bars_dataset, wish.method, images_per_class=1)
    made = instant(wish, options)
    assert made.manifest.provenance.hyper_parameters["memory.bases"] == options[1].bases
    assert made.manifest.provenance.hyper_parameters["start.coefficients"] == "typical"
    assert (made.manifest.retraining.augmentation, made.manifest.retraining.steps) == ("flip", 3)
    assert made.manifest.retraining.network.shrink == 1


def test_half_size_classifiers_are_chosen_unless_worse_by_more_than_the_noise(
    bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are quicker to train, and all that is chosen after that is chosen for them."""
    output = tmp_path / "bars.safetensors"
    scored(monkeypatch, [(0.5, 0.5), (0.4, 0.55), *[(0.4, 0.4)] * 5], [], output)
    wish = request(bars_dataset, output)
    sentences: list[str] = []
    made = instant(wish, budgets(bars_dataset, wish.method, images_per_class=1), report=sentences.append)
    assert str(made.manifest.retraining.network) == "convnet:filters=4,depth=2,shrink=2"
    assert made.manifest.provenance.hyper_parameters["objective.network"] == "convnet:filters=4,depth=2,shrink=2"
    assert ["half size" in sentence for sentence in sentences] == [False, False, *[True] * 6]


@pytest.mark.parametrize("network", ["convnet:filters=4,depth=3", "convnet:filters=4,depth=1,shrink=2", "mlp:hidden=4"])
def test_half_size_is_not_tried_for_small_pictures_or_a_given_network(
    bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    output, seen = tmp_path / "bars.safetensors", list[Path]()
    scored(monkeypatch, [(0.5, 0.5)] * 6, seen, output)
    wish = request(bars_dataset, output)
    wish = replace(wish, method=compose(wish.method, [f"objective.network={network}", f"retraining.network={network}"]))
    instant(wish, budgets(bars_dataset, wish.method, images_per_class=1))
    assert len(seen) == 6


def test_only_methods_with_a_computed_start_and_no_steps_are_instant() -> None:
    assert is_instant(compose("principal"))
    assert not is_instant(compose("window"))
    assert not is_instant(compose("principal", ["preprocessing=standardise", "outer.steps=5"]))
    assert not is_instant(compose("principal", ["preprocessing=standardise", "start=noise"]))


@pytest.mark.parametrize("override", ["outer.steps=5", "start=noise", "queries=images"])
def test_no_picture_is_projected_onto_bases_that_change(override: str) -> None:
    with pytest.raises(ValueError, match="only onto bases that no step changes; use preprocessing=standardise"):
        compose("principal", [override])


def test_test_pictures_are_projected_for_an_instant_memory_but_not_for_its_baselines(
    bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(bars_dataset, tmp_path / "bars.safetensors")
    made = instant(wish, budgets(bars_dataset, wish.method, images_per_class=1)[:1])
    assert isinstance(made.preprocessing, Projected)
    assert isinstance(made.memory, AddressedBases)
    assert len(made.preprocessing.directions) == len(made.memory.bases)
    seen: list[AbstractPreprocessing] = []
    monkeypatch.setattr(
        evaluate, "fresh_accuracy", lambda *_, preprocessing, **__: seen.append(preprocessing) or Accuracies((0.5,))
    )
    runs = evaluate.Runs(made.manifest.retraining, [0], torch.device("cpu"))
    evaluate.evaluate_real(made, bars_dataset.train, bars_dataset.test, runs)
    evaluate.evaluate_pictures(made, evaluate.herded(made, bars_dataset.train), bars_dataset.test, runs)
    evaluate.evaluate_labels(made, bars_dataset.test, runs)
    assert seen == [made.preprocessing.standard] * 2 + [made.preprocessing]


@needs_cuda
def test_on_cuda_the_memory_equals_that_of_the_cpu_and_networks_train_on_cuda(
    bars_dataset: ImageDataset, tmp_path: Path
) -> None:
    made = []
    for device in ("cpu", "cuda"):
        wish = replace(request(bars_dataset, tmp_path / f"{device}.safetensors"), device=torch.device(device))
        made.append(instant(wish, budgets(bars_dataset, wish.method, images_per_class=1)[:1]))
    on_cpu, on_cuda = made
    assert on_cuda.manifest.provenance.device == torch.cuda.get_device_name()
    assert on_cuda.memory.tensors()["bases"].device.type == "cpu"
    assert torch.equal(on_cuda.memory.tensors()["bases"], on_cpu.memory.tensors()["bases"])
    runs = evaluate.Runs(on_cuda.manifest.retraining, [0, 1], torch.device("cuda"))
    for accuracies in (
        evaluate.evaluate_labels(on_cuda, bars_dataset.test, runs),
        evaluate.evaluate_real(on_cuda, bars_dataset.train, bars_dataset.test, runs),
        evaluate.evaluate_pictures(on_cuda, evaluate.herded(on_cuda, bars_dataset.train), bars_dataset.test, runs),
    ):
        assert len(accuracies.values) == 2
        assert 0 <= accuracies.mean <= 1
