"""From a method to pieces: each preprocessing that a method may name is fitted to the training pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing, Projected, Spectral, Standardise
from tests.trainer.cli.test_command_line import SMALL, distill, run
from trainer.data.datasets import ImageDataset
from trainer.methods.named import compose
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.preprocessings import PreprocessingSpec
from trainer.methods.specs.problem import Problem
from trainer.run.setup.build import fit_preprocessing

KINDS: dict[str, type[AbstractPreprocessing]] = {
    "standardise": Standardise,
    "zca": ZCA,
    "spectral": Spectral,
    "projected": Projected,
}


@pytest.mark.parametrize("kind", PreprocessingSpec.kinds)
def test_the_preprocessing_of_a_method_is_that_of_classifiers(bars_dataset: ImageDataset, kind: str) -> None:
    method = compose("principal", [f"preprocessing={kind}"])
    fitted = fit_preprocessing(bars_dataset, method)
    problem = Problem(bars_dataset, fitted, torch.Generator().manual_seed(0), torch.device("cpu"))
    memory = method.build(problem, MemoryBudget(1, 2, 1)).memory
    assert type(method.preprocessing.onto(memory, fitted)) is KINDS[kind]


@pytest.mark.parametrize("kind", ["zca", "spectral"])
def test_a_larger_ridge_whitens_less(bars_dataset: ImageDataset, kind: str) -> None:
    method = compose("window", [f"preprocessing={kind}"])
    spreads = []
    for ridge in (0.01, 10.0):
        fitted = fit_preprocessing(bars_dataset, method.varied(preprocessing={"ridge": ridge}))
        gains = fitted.tensors()["gains"]
        spreads.append(float(gains.max() / gains.min()))
    assert spreads[0] > 2 * spreads[1]


def test_a_memory_in_spectral_space_is_distilled_and_continued(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bars.safetensors"
    there = "--set preprocessing=spectral --set preprocessing.ridge=0.3 --outer-steps 2 --validate-every 2".split()
    run(*distill(bars_folder, path, *there))
    first = MemoryBundle.load(path)
    assert isinstance(first.preprocessing, Spectral)
    assert first.manifest.provenance.hyper_parameters["preprocessing.ridge"] == 0.3
    run("distill", "--dataset", str(bars_folder), "--start", str(path), "--output", str(path), *SMALL, *there)
    again = MemoryBundle.load(path).preprocessing.tensors()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.preprocessing.tensors().items())


def test_initialisation_and_shrinking_of_networks_can_be_overridden() -> None:
    network = "convnet:filters=4,depth=2,shrink=2"
    same = [f"{field}={network}" for field in ("objective.network", "retraining.network", "queries.encoder")]
    method = compose("image-addressing", ["retraining.initial=encoder", *same])
    assert method.retraining.initial == "encoder"
    assert str(method.retraining.network) == network
    assert compose(method, ["retraining.initial=random"]).retraining.initial == "random"
