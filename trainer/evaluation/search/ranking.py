"""Architecture search on a memory: does it rank networks as training on all pictures does?

Every network of a space is trained on what the memory recalls, on as many random real pictures, and on all training
pictures (Zhao et al., "Dataset Condensation with Gradient Matching", ICLR 2021, section 4.2). Accuracies are on
validation pictures. Spearman's correlation says how well the order of the first two agrees with that of the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.data.splits import ImageDataset
from trainer.evaluation.evaluate import Runs, evaluate_all, evaluate_labels, evaluate_real
from trainer.evaluation.search.space import Candidate, build_candidate, check_space


class Tried(NamedTuple):
    """The accuracies of one network after training on the memory, on random real pictures, and on all pictures.

    `again` is that of a second training on all pictures with another seed, if there was one.
    """

    network: Candidate
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


def rank_networks(
    bundle: MemoryBundle,
    dataset: ImageDataset,
    networks: Sequence[Candidate],
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
        runs = Runs(bundle.manifest.retraining, seeds, device, network=partial(build_candidate, each))
        started = clock()
        memory = evaluate_labels(bundle, dataset.validation, runs)
        memory_seconds += clock() - started
        random = evaluate_real(bundle, dataset.train, dataset.validation, runs)
        started = clock()
        everything = evaluate_all(bundle, dataset.train, dataset.validation, replace(runs, seeds=seeds[:1]))
        all_seconds += clock() - started
        second = None
        if again:
            other = replace(runs, seeds=[seeds[0] + 1])
            second = evaluate_all(bundle, dataset.train, dataset.validation, other).accuracies.mean
        tried.append(Tried(each, memory.mean, random.mean, everything.accuracies.mean, second))
        report(tried[-1])
    return Ranking(tuple(tried), memory_seconds, all_seconds)


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's correlation of ranks; equal values share their mean rank. Zero where one side has a single value."""
    from scipy.stats import spearmanr  # noqa: PLC0415  (the extra `trainer`)

    if len(set(one)) < 2 or len(set(other)) < 2:
        return 0.0
    return float(spearmanr(one, other).statistic)
