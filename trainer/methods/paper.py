"""The paper's experiments by name: every cell of Table 1, every row of Tables 2, 6, 7 and 8, and figure 4.

A recipe is data: a data set, a budget, a number of bases, a method, and the reported accuracy. The tables below have
the differences between experiments; `rtp` and `bptt` of `trainer/methods/families/remember_the_past.py` have what they
share. The paper is Deng and Russakovsky, "Remember the Past" (2022).

The paper states neither its numbers of bases nor the rows of an inner minibatch. 16 bases and 32 rows for CIFAR-10 at
one image per class are in the authors' released command, and 64 bases for CIFAR-100 are in a figure of the appendix.
All other numbers of bases are this project's, from the middle of what fits. `recall-trainer select-bases` finds others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from recall_server.core.networks import NetworkSpec
from trainer.methods.families.remember_the_past import bptt, rtp
from trainer.methods.method import Method
from trainer.methods.specs.objectives.unrolled import InnerSgd, UnrolledSpec
from trainer.methods.specs.preprocessings import PreprocessingSpec, StandardiseSpec, ZcaSpec

CLASSES_IN_A_STEP = 10  # with more classes, some are drawn for every outer step (section 4.2)
BATCH = 640  # steps of retraining, and real pictures in an outer batch: 64 of each of ten classes (the authors' code)
PIXEL_ROWS = 10  # rows of a class in an inner minibatch of stored pictures (the authors' released command)
STEPS, STEPS_OF_MANY = 150, 200  # inner steps; the second for 50 images per class (section 5.1)


@dataclass(frozen=True)
class Experiment:
    """One experiment. `bases` is 0 for stored pictures. `reported` is accuracy in percent by test network."""

    name: str
    dataset: str
    images_per_class: int
    bases: int
    method: Method
    reported: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What all experiments with a data set share, and K for each budget in images per class."""

    bases: Mapping[int, int]
    preprocessing: PreprocessingSpec = StandardiseSpec()
    augmentation: str = "none"
    depth: int = 3  # of the ConvNet
    classes: int = 10


GREY = {1: 16, 10: 64, 50: 192}
COLOUR = {1: 16, 10: 96, 50: 256}
SETTINGS = {
    "mnist": Setting(GREY),
    "fashion-mnist": Setting(GREY),
    "svhn": Setting(COLOUR, preprocessing=ZcaSpec(ridge=100.0)),  # as in the authors' code: hardly any whitening
    "cifar10": Setting(COLOUR, preprocessing=ZcaSpec(), augmentation="flip+rotate"),
    "cifar100": Setting({1: 64, 10: 256}, preprocessing=ZcaSpec(), augmentation="flip+rotate", classes=100),
    "tinyimagenet": Setting({1: 128}, depth=4, classes=200),
}

TABLE_1 = {
    "mnist": {1: 98.7, 10: 99.3, 50: 99.4},
    "fashion-mnist": {1: 88.5, 10: 90.0, 50: 91.2},
    "svhn": {1: 87.3, 10: 89.1, 50: 89.5},
    "cifar10": {1: 66.4, 10: 71.2, 50: 73.6},
    "cifar100": {1: 34.0, 10: 42.9},
    "tinyimagenet": {1: 16.0},
}

# BPTT on stored pictures, the same at half resolution, bases without augmentation (None: there is none), all of it.
VARIANTS = ("bptt", "bptt+ds", "full-without-augmentation", "full")
TABLE_7: dict[str, dict[int, tuple[float | None, ...]]] = {
    "mnist": {1: (95.2, 98.2, None, 98.7), 10: (98.8, 98.9, None, 99.3), 50: (99.2, 99.4, None, 99.4)},
    "fashion-mnist": {1: (83.9, 86.7, None, 88.5), 10: (89.1, 89.1, None, 90.0), 50: (90.4, 90.7, None, 91.2)},
    "svhn": {1: (71.6, 80.1, None, 87.3), 10: (83.1, 86.2, None, 89.1), 50: (86.5, 88.8, None, 89.5)},
    "cifar10": {1: (49.1, 55.2, 64.2, 66.4), 10: (62.4, 65.9, 70.9, 71.2), 50: (70.5, 71.1, 72.1, 73.6)},
    "cifar100": {1: (21.3, 25.9, 33.5, 34.0), 10: (34.7, 36.5, 40.6, 42.9)},
}
TABLE_2 = {
    "cifar10": TABLE_7["cifar10"] | {50: (70.5, 71.1, 72.1, 73.8)},  # the paper has two figures for this cell
    "cifar100": TABLE_7["cifar100"],
}

# Rows: the network that the memory is trained on; columns: the network that it is tested on. CIFAR-10.
TABLE_6 = {
    "alexnet": {1: (58.5, 53.6, 57.3), 10: (65.6, 60.2, 63.7)},
    "resnet": {1: (53.2, 58.5, 57.0), 10: (62.3, 67.8, 65.2)},
    "convnet": {1: (50.5, 55.9, 66.4), 10: (63.8, 67.5, 71.2)},
}

# BPTT on stored pictures of CIFAR-10, 200 inner steps.
MOMENTA: dict[str, dict[str, Any]] = {
    "no-momentum": {"optimiser": InnerSgd(momentum=0.0)},
    "forward-only-momentum": {"optimiser": InnerSgd(gradient="forward")},
    "full-momentum": {},
}
TABLE_8 = {1: (40.5, 45.6, 49.1), 10: (50.0, 57.4, 62.4)}
STEPS_OF_TABLE_8 = 200

# Figure 4 is printed without numbers; its text names 1, 10 and 100 steps.
FIGURE_4_DATA = ("cifar10", "svhn")
FIGURE_4_STEPS = (1, 10, 20, 50, 100, 150, 200)


def with_bases(dataset: str, images_per_class: int, **objective: Any) -> Method:
    """The paper's full method for this data and budget; `objective` has the fields that differ."""
    return _adapted(rtp(), dataset, images_per_class, objective)


def with_pictures(
    dataset: str, images_per_class: int, *, resolution: Literal["full", "half"] = "full", **objective: Any
) -> Method:
    """The paper's BPTT with stored pictures, without augmentation, which the paper adds last."""
    changes = {"rows_per_class": PIXEL_ROWS, "augmentation": "none"} | objective
    return _adapted(bptt(), dataset, images_per_class, changes).varied(memory={"resolution": resolution})


def _adapted(method: Method, dataset: str, images_per_class: int, changes: Mapping[str, Any]) -> Method:
    setting = SETTINGS[dataset]
    steps = STEPS_OF_MANY if images_per_class >= 50 else STEPS
    fields = dict(method.objective) | {
        "network": NetworkSpec(depth=setting.depth),
        "augmentation": setting.augmentation,
        "steps": steps,
        "window": steps,
        "classes_per_step": 0 if setting.classes <= CLASSES_IN_A_STEP else CLASSES_IN_A_STEP,
        "real_batch": BATCH,
    }
    objective = UnrolledSpec.model_validate(fields | dict(changes))
    return method.varied(
        objective=objective,
        preprocessing=setting.preprocessing,
        retraining={
            "network": objective.network,
            "steps": steps,
            "rows_per_class": min(objective.rows_per_class, BATCH // setting.classes),
            "augmentation": objective.augmentation,
        },
    )


@cache
def recipes() -> Mapping[str, Experiment]:
    """All recipes by name, in the order of the paper."""
    made = [*_table_1(), *_variants("table2", TABLE_2), *_figure_4(), *_table_6(), *_variants("table7", TABLE_7)]
    return {recipe.name: recipe for recipe in [*made, *_table_8()]}


def _full(name: str, dataset: str, size: int, method: Method, reported: Mapping[str, float]) -> Experiment:
    return Experiment(name, dataset, size, SETTINGS[dataset].bases[size], method, reported)


def _table_1() -> Iterator[Experiment]:
    for dataset, cells in TABLE_1.items():
        for size, accuracy in cells.items():
            yield _full(f"table1/{dataset}/{size}", dataset, size, with_bases(dataset, size), {"convnet": accuracy})


def _variants(table: str, rows: Mapping[str, Mapping[int, tuple[float | None, ...]]]) -> Iterator[Experiment]:
    for dataset, budgets in rows.items():
        for size, cells in budgets.items():
            for variant, accuracy in zip(VARIANTS, cells, strict=True):
                if accuracy is None:
                    continue
                name, reported = f"{table}/{dataset}/{size}/{variant}", {"convnet": accuracy}
                if variant.startswith("full"):
                    changes = {} if variant == "full" else {"augmentation": "none"}
                    yield _full(name, dataset, size, with_bases(dataset, size, **changes), reported)
                else:
                    method = with_pictures(dataset, size, resolution="full" if variant == "bptt" else "half")
                    yield Experiment(name, dataset, size, 0, method, reported)


def _table_6() -> Iterator[Experiment]:
    for network, budgets in TABLE_6.items():
        for size, cells in budgets.items():
            method = with_bases("cifar10", size, network=NetworkSpec.parse(network))
            reported = dict(zip(TABLE_6, cells, strict=True))
            yield _full(f"table6/{network}/{size}", "cifar10", size, method, reported)


def _table_8() -> Iterator[Experiment]:
    for size, cells in TABLE_8.items():
        for (momentum, changes), accuracy in zip(MOMENTA.items(), cells, strict=True):
            method = with_pictures("cifar10", size, steps=STEPS_OF_TABLE_8, window=STEPS_OF_TABLE_8, **changes)
            yield Experiment(f"table8/{size}/{momentum}", "cifar10", size, 0, method, {"convnet": accuracy})


def _figure_4() -> Iterator[Experiment]:
    for dataset in FIGURE_4_DATA:
        for steps in FIGURE_4_STEPS:
            for momentum in ("no-momentum", "full-momentum"):
                method = with_pictures(dataset, 1, steps=steps, window=steps, **MOMENTA[momentum])
                yield Experiment(f"figure4/{dataset}/{steps}/{momentum}", dataset, 1, 0, method)
