"""What overrides and names a method refuses, and how large a memory its budget allows."""

from __future__ import annotations

import pytest

from recall_server.core.networks import NetworkSpec
from trainer.data.datasets import ImageDataset
from trainer.methods.named import compose


def test_the_network_spec_of_a_method_can_be_overridden_from_text() -> None:
    method = compose(
        "window", ["objective.network=convnet:filters=8", "retraining.network=resnet", "retraining.steps=7"]
    )
    assert method.objective.network == NetworkSpec(filters=8)
    assert (str(method.retraining.network), method.retraining.steps) == ("resnet", 7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["windw=3"], "'windw=3': there is no field 'windw'; there are name, citation, memory"),
        (["window"], "'window' is not field=value"),
        (["window=3"], "there is no field 'window'; .*; did you mean objective.window?"),
        (
            ["objective.radius=3"],
            "the objective unrolled has no field 'radius'; it has kind, network, augmentation, steps",
        ),
        (["objective=magic"], "there is no objective 'magic'; there are .*unrolled"),
        (["objective.network=transformer"], "there is no network 'transformer'; there are convnet, resnet, alexnet"),
        (["start=noise", "start.coefficients=centres"], "the start noise has no field 'coefficients'"),
        (["memory=stored_items"], "start=principal needs a memory with bases.*use memory=addressed_bases"),
        (["outer.rates.bases=0"], r"outer\.rates\.bases: Input should be greater than 0"),
        (["objective.window=0"], "objective.window: "),
        (["objective.classes_per_step=1"], "one class per step leaves nothing to tell apart"),
        (["name=rtp"], "'name=rtp' is not field=value with one of the fields memory"),
        (["retraining.stepps=1"], "there is no field 'stepps'; there are network, steps"),
        (["objective.window=300"], "a window of 300 is longer than the longest training of 60 steps"),
        (["objective.precision=float8"], "objective.precision: "),
        (["memory.storage=int4"], "memory.storage: Input should be 'float32', 'bfloat16' or 'int8'"),
        (
            ["objective.optimiser=adam", "objective.optimiser.gradient=forward"],
            "the inner optimiser adam has no field 'gradient'",
        ),
        (["memory.targets=soft", "queries=images"], "soft targets are of memories that labels address"),
        (["memory.targets=soft", "outer.steps=0"], "soft targets are learned by outer steps"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose("window", overrides)


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown method 'magic'; known methods: window, rtp"):
        compose("magic")


def test_a_budget_that_is_too_small_is_refused_with_the_number_of_bases_that_fits(
    bars_dataset: ImageDataset,
) -> None:
    method = compose("window")
    with pytest.raises(
        ValueError, match="500 bases and -?[0-9]+ rows do not fit in 1 images per class; try with at most "
    ) as refused:
        method.budget(bars_dataset, images_per_class=1, bases=500, rows=None)
    most = int(str(refused.value).split("at most ")[1].split()[0])
    assert method.budget(bars_dataset, images_per_class=1, bases=most, rows=None).rows >= 1
    with pytest.raises(ValueError, match="do not fit"):
        method.budget(bars_dataset, images_per_class=1, bases=most + 1, rows=None)


@pytest.mark.parametrize("bases", [0, -3])
def test_a_memory_without_bases_is_refused(bars_dataset: ImageDataset, bases: int) -> None:
    with pytest.raises(ValueError, match=f"a memory needs one basis or more, not {bases}"):
        compose("window").budget(bars_dataset, images_per_class=1, bases=bases, rows=None)


def test_half_resolution_allows_four_times_as_many_pictures(bars_dataset: ImageDataset) -> None:
    half = compose("bptt", ["memory.resolution=half"])
    assert half.budget(bars_dataset, images_per_class=2, bases=0, rows=None).rows == 8
    assert half.budget(bars_dataset, images_per_class=0.5, bases=0, rows=None).rows == 2
    with pytest.raises(ValueError, match="9 stored items of each class do not fit in 2 images per class"):
        half.budget(bars_dataset, images_per_class=2, bases=0, rows=9)


def test_a_memory_of_pixels_refuses_more_images_than_its_budget(bars_dataset: ImageDataset) -> None:
    with pytest.raises(ValueError, match="3 stored items of each class do not fit in 2 images per class"):
        compose("bptt").budget(bars_dataset, images_per_class=2, bases=0, rows=3)
