from __future__ import annotations

import pytest
import torch

from recall_server.core.networks import ConvNet
from trainer.objectives.inner import precision
from trainer.objectives.inner.precision import with_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NETWORK = ConvNet(channels=1, height=8, width=8, classes=2, filters=32, depth=2)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_bfloat16_is_used_in_convolutions_only(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: device == CPU)  # of CUDA nothing is asked
    assert with_precision(NETWORK, "bfloat16", device).convolution_dtype is torch.bfloat16
    assert with_precision(NETWORK, "float32", device).convolution_dtype is None


def test_a_processor_without_bfloat16_refuses_it_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="no instructions for bfloat16.*leave out --set objective.precision=bfloat16"):
        with_precision(NETWORK, "bfloat16", CPU)
    assert with_precision(NETWORK, "float32", CPU) == NETWORK


def test_processor_capabilities_come_from_torch() -> None:
    assert isinstance(precision.processor_has_bfloat16(), bool)
