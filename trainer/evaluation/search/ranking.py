"""Architecture search on a memory: does it rank networks as training on all pictures does?

Every network of a space is trained on what the memory recalls, on as many random real pictures, and on all training
pictures (Zhao et al., "Dataset Condensation with Gradient Matching", ICLR 2021, section 4.2). Accuracies are on
validation pictures. Spearman's correlation says how well the order of the first two agrees with that of the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import NetworkSpec, build_network
from trainer.data.splits import ImageDataset
from trainer.evaluation.evaluate import Runs, evaluate_all, evaluate_labels, evaluate_real

CONVNETS: Final = [(depth, filters) for depth in (1, 2, 3) for filters in (4, 8, 16, 32)]
PERCEPTRONS: Final = [(depth, hidden) for depth in (1, 2, 3) for hidden in (16, 64)]
FEWEST: Final = 3  # networks that can be ranked


class Tried(NamedTuple):
    """The accuracies of one network after training on the memory, on random real pictures, and on all pictures.

    `again` is that of a second training on all pictures with another seed, if there was one.
    """

    network: NetworkSpec
    memory: float
    random: float
    everything: float
    again: float | None = None


class Ranking(NamedTuple):
    """All networks of a space, and the seconds that each way of training took for all of them.

    On a processor they are seconds of its time, which other work on the machine does not change.
    """

    tried: tuple[Tried, ...]
    memory_seconds: float
    all_seconds: float

    @property
    def memory_correlation(self) -> float:
        """Spearman's correlation of accuracies by the memory with those by all pictures."""
        return spearman([each.memory for each in self.tried], [each.everything for each in self.tried])

    @property
    def random_correlation(self) -> float:
        """The same by random real pictures."""
        return spearman([each.random for each in self.tried], [each.everything for each in self.tried])

    @property
    def reliability(self) -> float | None:
        """The same by another training on all pictures, which bounds the others; None if there was none."""
        again = [each.again for each in self.tried if each.again is not None]
        return spearman(again, [each.everything for each in self.tried]) if len(again) == len(self.tried) else None

    @property
    def chosen(self) -> Tried:
        """The best network by the memory."""
        return max(self.tried, key=lambda each: each.memory)


def usual_space(bundle: MemoryBundle) -> list[NetworkSpec]:
    """ConvNets and perceptrons of several depths and widths that fit the bundle's images."""
    found = [NetworkSpec(filters=filters, depth=depth) for depth, filters in CONVNETS]
    found += [NetworkSpec(architecture="mlp", depth=depth, hidden=hidden) for depth, hidden in PERCEPTRONS]
    return [each for each in found if _fits(each, bundle)]


def check_space(networks: Sequence[NetworkSpec], bundle: MemoryBundle) -> None:
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
        if each.shrinking(1) != each:
            raise ValueError(
                f"real pictures are seen at their full size, so {each} cannot be compared; leave out shrink"
            )
        build_network(each, manifest.network_shape, len(bundle.labels))


def rank_networks(
    bundle: MemoryBundle,
    dataset: ImageDataset,
    networks: Sequence[NetworkSpec],
    *,
    seeds: Sequence[int],
    device: torch.device,
    again: bool = False,
    report: Callable[[Tried], None] = lambda tried: None,
) -> Ranking:
    """Train all of the networks in all three ways, on the bundle's schedule; `report` is called after each network.

    Training on all pictures uses the first of the seeds, and with `again` the next one too; the others use all of
    them. Raises ValueError as `check_space`.
    """
    check_space(networks, bundle)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    tried, memory_seconds, all_seconds = [], 0.0, 0.0
    for each in networks:
        schedule = bundle.manifest.retraining.model_copy(update={"network": each})
        changed = replace(bundle, manifest=bundle.manifest.model_copy(update={"retraining": schedule}))
        started = clock()
        runs = Runs(schedule, seeds, device)
        memory = evaluate_labels(bundle, dataset.validation, runs)
        memory_seconds += clock() - started
        random = evaluate_real(bundle, dataset.train, dataset.validation, runs)
        started = clock()
        everything = evaluate_all(changed, dataset.train, dataset.validation, seed=seeds[0], device=device)
        all_seconds += clock() - started
        second = None
        if again:
            found = evaluate_all(changed, dataset.train, dataset.validation, seed=seeds[0] + 1, device=device)
            second = found.accuracies.mean
        tried.append(Tried(each, memory.mean, random.mean, everything.accuracies.mean, second))
        report(tried[-1])
    return Ranking(tuple(tried), memory_seconds, all_seconds)


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's correlation of ranks; equal values share their mean rank. Zero where one side has a single value."""
    from scipy.stats import spearmanr  # noqa: PLC0415  (the extra `trainer`)

    if len(set(one)) < 2 or len(set(other)) < 2:
        return 0.0
    return float(spearmanr(one, other).statistic)


def _fits(network: NetworkSpec, bundle: MemoryBundle) -> bool:
    try:
        build_network(network, bundle.manifest.network_shape, len(bundle.labels))
    except ValueError:
        return False
    return True
