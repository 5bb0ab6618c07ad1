"""From a method to pieces: each preprocessing that a method may name is fitted to the training pictures."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing, Projected, Spectral, Standardise
from tests.trainer.cli.test_command_line import SMALL, distill, run
from trainer.data.datasets import ImageDataset
from trainer.methods.budget import MemoryBudget
from trainer.methods.method import Method, compose
from trainer.run.build import fit_preprocessing, make_memory, with_projection

KINDS: dict[str, type[AbstractPreprocessing]] = {
    "standardise": Standardise,
    "zca": ZCA,
    "spectral": Spectral,
    "projected": Projected,
}


@pytest.mark.parametrize("kind", get_args(Method.model_fields["preprocessing"].annotation))
def test_what_a_method_names_is_what_classifiers_see_pictures_through(bars_dataset: ImageDataset, kind: str) -> None:
    method = compose("principal", [f"preprocessing={kind}"])
    fitted = fit_preprocessing(bars_dataset, method)
    memory = make_memory(bars_dataset, method, MemoryBudget(1, 2, 1), fitted, torch.Generator().manual_seed(0))
    assert type(with_projection(method, memory, fitted)) is KINDS[kind]


@pytest.mark.parametrize("kind", ["zca", "spectral"])
def test_a_larger_ridge_whitens_less(bars_dataset: ImageDataset, kind: str) -> None:
    method = compose("window", [f"preprocessing={kind}"])
    spreads = []
    for ridge in (0.01, 10.0):
        fitted = fit_preprocessing(bars_dataset, method.model_copy(update={"ridge": ridge}))
        gains = fitted.tensors()["gains"]
        spreads.append(float(gains.max() / gains.min()))
    assert spreads[0] > 2 * spreads[1]


def test_a_memory_is_distilled_and_gone_on_from_in_its_spectral_space(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bars.safetensors"
    there = "--set preprocessing=spectral --set ridge=0.3 --outer-steps 2 --validate-every 2".split()
    run(*distill(bars_folder, path, *there))
    first = MemoryBundle.load(path)
    assert isinstance(first.preprocessing, Spectral)
    assert first.manifest.provenance.hyper_parameters["ridge"] == 0.3
    run("distill", "--dataset", str(bars_folder), "--start", str(path), "--output", str(path), *SMALL, *there)
    again = MemoryBundle.load(path).preprocessing.tensors()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.preprocessing.tensors().items())


def test_a_field_that_files_leave_unsaid_can_be_set_like_any_other() -> None:
    """`initial` is not written down where it is random, and `shrink` not where nothing is shrunk."""
    network = "convnet:filters=4,depth=2,shrink=2"
    same = [f"{field}={network}" for field in ("network", "retraining.network", "encoder")]
    method = compose("image-addressing", ["retraining.initial=encoder", *same])
    assert method.retraining.initial == "encoder"
    assert str(method.retraining.network) == network
    assert compose(method, ["retraining.initial=random"]).retraining.initial == "random"
