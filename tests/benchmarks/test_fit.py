"""The baseline of the fitting benchmark is the same network, and the benchmark ends in one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.fit import main, stock_module
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import ConvNet, NetworkSpec
from tests.recall_server.bundle_examples import example_manifest, example_memory, example_preprocessing
from tests.tolerances import assert_close


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 13)])
def test_the_baseline_is_the_same_network_in_torchs_own_modules(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    network = ConvNet(channels=channels, height=height, width=width, classes=5, filters=8, depth=2)
    parameters = network.initialise(torch.Generator().manual_seed(0))
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    assert_close(stock_module(network, parameters)(images), network.logits(parameters, images), terms=8 * 8 * 8)


def test_quick_measures_both_sides_and_ends_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _digits_bundle(NetworkSpec(filters=4, depth=2)).save(tmp_path / "digits.safetensors")
    main(["--quick", "--bundle", str(tmp_path / "digits.safetensors")])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["speedup_over_paper_protocol"] > 1
    assert 0 <= figures["accuracy"] <= 1
    assert 0 <= figures["accuracy_paper_protocol"] <= 1
    assert figures["epochs_paper_protocol"] == 300
    assert figures["epochs"] == 20  # 20 steps over both of the two rows


def test_only_a_convnet_has_the_papers_protocol(tmp_path: Path) -> None:
    _digits_bundle(NetworkSpec(architecture="resnet")).save(tmp_path / "digits.safetensors")
    with pytest.raises(SystemExit, match="protocol needs a convnet"):
        main(["--quick", "--bundle", str(tmp_path / "digits.safetensors")])


def _digits_bundle(network: NetworkSpec) -> MemoryBundle:
    memory, preprocessing = example_memory(labels=10), example_preprocessing()
    manifest = example_manifest(memory, preprocessing, labels=tuple("0123456789"))
    retraining = manifest.retraining.model_copy(update={"network": network})
    provenance = manifest.provenance.model_copy(update={"dataset": "digits"})
    manifest = manifest.model_copy(update={"retraining": retraining, "provenance": provenance})
    return MemoryBundle(manifest, memory, preprocessing)
