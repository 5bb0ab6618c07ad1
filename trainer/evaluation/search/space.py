"""The networks that are ranked: which are usual, which can be ranked, and how they are built."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import AbstractNetwork, NetworkSpec, build_network
from trainer.evaluation.search.varied_convnet import VariedSpec

Candidate = NetworkSpec | VariedSpec

CONVNETS: Final = [(depth, filters) for depth in (1, 2, 3) for filters in (4, 8, 16, 32)]
PERCEPTRONS: Final = [(depth, hidden) for depth in (1, 2, 3) for hidden in (16, 64)]
VARIED: Final = ("norm", "activation", "pooling")  # what makes a ConvNet another one
FEWEST: Final = 3  # networks that can be ranked


def parse_candidate(text: str) -> Candidate:
    """A network as `NetworkSpec` or, with one of VARIED, `VariedSpec` writes it. Raises ValueError."""
    varied = text.startswith("convnet:") and any(f"{name}=" in text for name in VARIED)
    return VariedSpec.parse(text) if varied else NetworkSpec.parse(text)


def build_candidate(candidate: Candidate, image_shape: tuple[int, int, int], classes: int) -> AbstractNetwork:
    """Raises ValueError if the images are too small for it."""
    if isinstance(candidate, VariedSpec):
        return candidate.build(image_shape, classes)
    return build_network(candidate, image_shape, classes)


def small_space(bundle: MemoryBundle) -> list[Candidate]:
    """ConvNets and perceptrons of several depths and widths that fit the bundle's images."""
    found = [NetworkSpec(filters=filters, depth=depth) for depth, filters in CONVNETS]
    found += [NetworkSpec(architecture="mlp", depth=depth, hidden=hidden) for depth, hidden in PERCEPTRONS]
    return [each for each in found if _fits(each, bundle)]


def varied_space(bundle: MemoryBundle) -> list[Candidate]:
    """108 ConvNets: the space of Zhao et al. at the size of a processor, without batch norm and leaky ReLU.

    Batch norm predicts by statistics of the data that a network was trained on, which recalled pictures do not share.
    """
    found = [
        VariedSpec(filters=filters, depth=depth, norm=norm, activation=activation, pooling=pooling)
        for filters, depth, norm, activation, pooling in product(
            (8, 32), (1, 2, 3), ("none", "layer", "instance"), ("sigmoid", "relu"), ("none", "max", "average")
        )
    ]
    return [each for each in found if _fits(each, bundle)]


SPACES: Final = {"small": small_space, "varied": varied_space}


def space_of(name: str, bundle: MemoryBundle) -> list[Candidate]:
    """The networks of a space. Raises ValueError for an unknown name."""
    if name not in SPACES:
        raise ValueError(f"there is no space {name!r}; there are {' and '.join(SPACES)}")
    return SPACES[name](bundle)


def check_space(networks: Sequence[Candidate], bundle: MemoryBundle) -> None:
    """Raise ValueError for a memory that cannot rank networks, and for networks that cannot be ranked by it."""
    manifest = bundle.manifest
    if manifest.space != "pixels" or manifest.queries != "labels" or manifest.retraining.initial != "random":
        raise ValueError(
            f"{manifest.name} cannot rank networks: that takes a memory of pixels that labels address, whose networks "
            "begin at random"
        )
    if len(set(networks)) < max(FEWEST, len(networks)):
        raise ValueError(f"a ranking needs {FEWEST} different networks or more, each once")
    for each in networks:
        if isinstance(each, NetworkSpec) and each.shrinking(1) != each:
            raise ValueError(
                f"real pictures are seen at their full size, so {each} cannot be compared; leave out shrink"
            )
        build_candidate(each, manifest.network_shape, len(bundle.labels))


def _fits(candidate: Candidate, bundle: MemoryBundle) -> bool:
    try:
        build_candidate(candidate, bundle.manifest.network_shape, len(bundle.labels))
    except ValueError:
        return False
    return True
