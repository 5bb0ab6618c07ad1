"""An encoder read back from its file is the one that was written."""

from __future__ import annotations

import pytest
import torch

from recall_server.networks import NetworkSpec, build_network
from recall_server.onnx_export import export_network
from recall_server.preprocessing import Standardise
from trainer.encoder_file import encoder_parameters

SHAPE = (3, 16, 16)
PREPROCESSING = Standardise(torch.full((3,), 0.5), torch.full((3,), 0.25))


@pytest.mark.parametrize(
    "spec", [NetworkSpec(filters=4), NetworkSpec(architecture="resnet"), NetworkSpec(architecture="mlp", hidden=7)]
)
def test_an_encoder_gives_the_same_queries_when_read_back(spec: NetworkSpec) -> None:
    network = build_network(spec, SHAPE, 5)
    parameters = network.initialise(torch.Generator().manual_seed(0))
    model = export_network(network, parameters, PREPROCESSING, SHAPE, output="queries", metadata={})
    again = encoder_parameters(model, network)
    assert again.keys() == parameters.keys()
    images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(network.logits(again, images), network.logits(parameters, images), atol=1e-5)


@pytest.mark.parametrize(
    ("filters", "depth", "queries", "sentence"),
    [
        (8, 2, 5, r"the bundle's encoder has a \S+ of \[4, 3, 3, 3\], and the one asked for has \[8, 3, 3, 3\]"),
        (4, 3, 5, "the bundle's encoder has no "),
        (4, 2, 6, r"a classifier.weight of \[5, 64\], and the one asked for has \[6, 64\]; leave encoder and query"),
    ],
)
def test_another_encoder_is_refused_with_what_differs(filters: int, depth: int, queries: int, sentence: str) -> None:
    network = build_network(NetworkSpec(filters=4, depth=2), SHAPE, 5)
    parameters = network.initialise(torch.Generator().manual_seed(0))
    model = export_network(network, parameters, PREPROCESSING, SHAPE, output="queries", metadata={})
    with pytest.raises(ValueError, match=sentence):
        encoder_parameters(model, build_network(NetworkSpec(filters=filters, depth=depth), SHAPE, queries))
