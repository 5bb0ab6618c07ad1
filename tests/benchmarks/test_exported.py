"""The benchmark hands an export to another interpreter; a stand-in for DD-Ranking checks what it is given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.exported import main

pytestmark = pytest.mark.process

STAND_IN = '''
import torch
import torchvision

REAL_DATA_ACC_CACHE = {}


def save_results(results, path):
    raise AssertionError("version 0.2.0 fails here")


class LabelRobustScoreHard:
    """Scores by the mean of what it was shown, which only the right files give."""

    def __init__(self, *, dataset, real_data_path, ipc, model_name, num_epochs, num_eval, **rest):
        assert (dataset, model_name, ipc) == ("CIFAR10", "ConvNet-3", 1)
        self.runs = num_eval
        transform = torchvision.transforms.ToTensor()
        self.test = torchvision.datasets.CIFAR10(real_data_path, train=False, download=True, transform=transform)
        image, label = self.test[0]
        assert image.shape == (3, 8, 8) and label in range(10)

    def compute_metrics(self, image_tensor, hard_labels, syn_lr):
        assert image_tensor.shape == (40, 3, 8, 8) and image_tensor.isfinite().all()
        assert hard_labels.tolist() == [label for label in range(10) for _ in range(4)]
        assert 0 < float(syn_lr) < 1
        gaps = [REAL_DATA_ACC_CACHE["CIFAR10-ConvNet-3"] - 40.0] * self.runs
        save_results({"hard_label_recovery": gaps, "improvement_over_random": [15.0] * self.runs}, "scores.csv")
'''


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten classes of small colour pictures under the name of CIFAR-10, and a package `ddranking`."""
    random = np.random.default_rng(0)
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    for split, each in (("train", 20), ("test", 10)):
        labels = np.arange(10 * each) % 10
        images = random.integers(0, 40, (len(labels), 8, 8, 3)) + 20 * labels[:, None, None, None]
        np.savez(
            tmp_path / "data" / "cifar10" / f"{split}.npz",
            images=images.astype(np.uint8),
            labels=labels,
            classes=np.array([f"class {label}" for label in range(10)]),
        )
    package = tmp_path / "packages" / "ddranking" / "metrics"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package.parent / "__init__.py").write_text("")
    (package / "hard_label.py").write_text(STAND_IN)
    monkeypatch.setenv("RECALL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))


@pytest.mark.usefixtures("cifar")
def test_an_export_is_scored_beside_networks_of_this_project(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--python", sys.executable])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["accuracy_ddranking"] == pytest.approx(0.40)
    assert figures["accuracy_ddranking_random_real"] == pytest.approx(0.25)
    assert 0 <= figures["accuracy"] <= 1


def test_an_interpreter_without_the_package_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cannot import ddranking: ModuleNotFoundError: No module named 'ddranking'"):
        main(["--quick", "--python", sys.executable])
    with pytest.raises(SystemExit, match="cannot be started: No such file"):
        main(["--quick", "--python", str(tmp_path / "python")])
