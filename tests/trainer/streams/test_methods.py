"""The methods of streams: short compositions, whose fields are set by name."""

from __future__ import annotations

import inspect

import pytest

from trainer.methods.specs.spec import flattened
from trainer.streams.methods import METHODS, SETTINGS, compose_stream


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_short_and_says_where_it_comes_from(name: str) -> None:
    method = METHODS[name]()
    assert method.name == name
    assert method.citation
    assert len(inspect.getsource(METHODS[name]).split('"""')[2].strip().splitlines()) <= 15


@pytest.mark.parametrize("stream", [*SETTINGS, "cifar100", "my-own"])
def test_every_field_can_be_set_by_the_name_that_is_printed(stream: str) -> None:
    method = compose_stream("window", stream)
    fields = flattened(method, lambda field: field in {"name", "citation"})
    assert compose_stream("window", stream, [f"{field}={value}" for field, value in fields.items()]) == method


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["bases=3"], "'bases=3': there is no field 'bases'; .*; did you mean stream.bases?"),
        (["stream.bases"], "'stream.bases' is not field=value"),
        (["stream.bases=0"], "stream.bases: "),
        (["objective=distribution_matching"], "a stream cannot use the objective distribution_matching; use unrolled"),
        (["start=bundle"], "a stream cannot use the start bundle; use noise or principal"),
        (["preprocessing=zca"], "a stream cannot use the preprocessing zca; use standardise"),
        (["outer.decay=cosine"], "use outer.settle in place of outer.decay"),
        (["memory.storage=int8"], "use memory.storage=float32"),
        (["objective.network=resnet"], "only an mlp is trained in the span of the bases.*use objective=unrolled"),
        (["objective.window=100"], "a window of 100 is longer than the longest training of 60 steps"),
        (["objective.network=mlp:filters=3"], "mlp takes hidden and depth"),
        (["name=mine"], "'name=mine' is not field=value"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose_stream("window", "rotations", overrides)


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown method 'magic'; known methods: paper, window"):
        compose_stream("magic", "rotations")


def test_the_settings_are_those_of_table_5() -> None:
    found = {
        name: (made.stream.bases, made.memory.resolution, made.outer.steps, str(made.objective.network))
        for name in ("rotations", "permutations", "many", "cifar100", "rotations-60000", "permutations-60000")
        for made in [compose_stream("paper", name)]
    }
    mlp = "mlp:hidden=256,depth=1"
    assert found == {
        "rotations": (24, "half", 4, mlp),
        "permutations": (8, "full", 20, mlp),
        "many": (8, "full", 20, mlp),
        "cifar100": (24, "half", 4, "convnet:filters=160,depth=3"),
        "rotations-60000": (24, "half", 2, mlp),
        "permutations-60000": (8, "full", 2, mlp),
    }
