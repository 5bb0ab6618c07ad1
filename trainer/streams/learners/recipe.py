"""The methods for compressing a task while it is streamed: the paper's (Table 5), and this project's.

A stream method is plain data, like a `Method`, and all of its fields are recorded in the manifests of the bundles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.overrides import overridden

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
MLP, CONVNET = NetworkSpec(architecture="mlp"), NetworkSpec(filters=160)


class StreamMethod(BaseModel):
    """Settings of memory, start, samples, inner and outer training; every minibatch drives `replays` outer steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    # the memory of a task
    bases: Count
    resolution: Literal["half", "full"]
    start: Literal["noise", "principal"] = "noise"
    start_after: Annotated[int, Field(ge=0)] = 0  # samples of a task before the first outer step
    reuse: bool = False  # start from a finished memory if its loss is lower than that of `start`
    # real samples
    replays: Annotated[int, Field(ge=0)]
    stored: Literal["raw", "coded"] = "raw"  # how the buffer keeps samples
    directions: Count = 48  # coded samples: the maximum number of directions
    least_samples: Count = 300  # coded samples: reduce the directions rather than go below this number
    real_batch: Count = 1_000_000  # samples of the buffer in an outer step; by default all of them
    # inner training
    network: NetworkSpec
    steps: Count
    window: Count
    rate: Rate
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    rows_per_class: Count
    # outer training
    optimiser: Literal["adam", "sgd"]
    outer_rate: Rate
    settle: Annotated[int, Field(ge=0)] = 0  # outer steps after which the outer rate is half, then a third, ...
    clip: Annotated[float, Field(ge=0)] = 2.0  # norm of the outer gradient; 0: not clipped
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of the running average that is kept; 0: the last state
    retraining: Retraining

    @model_validator(mode="after")
    def _check(self) -> StreamMethod:
        if self.window > self.steps:
            raise ValueError(f"a window of {self.window} is longer than the longest training of {self.steps} steps")
        return self


def paper(*, bases: int, resolution: Literal["half", "full"], replays: int, network: NetworkSpec = MLP) -> StreamMethod:
    """Deng and Russakovsky, "Remember the Past" (2022), appendix A.2, with 150 inner steps as for small memories."""
    return StreamMethod(
        name="paper", bases=bases, resolution=resolution, replays=replays, network=network, steps=150, window=150,
        rate=0.01, rows_per_class=32, optimiser="sgd", outer_rate=0.1,
        retraining=Retraining(network=network, steps=150, learning_rate=0.01, rows_per_class=32),
    )  # fmt: skip


def window(
    *, bases: int, resolution: Literal["half", "full"], replays: int, network: NetworkSpec = MLP
) -> StreamMethod:
    """Random windows (RaT-BPTT, Feng et al., 2024), with a start computed from the first samples."""
    return StreamMethod(
        name="window", bases=bases, resolution=resolution, replays=replays, network=network, steps=60, window=20,
        rate=0.02, rows_per_class=3, optimiser="adam", outer_rate=0.02, average=0.98, start="principal",
        start_after=200, reuse=True, stored="coded", real_batch=30,
        retraining=Retraining(network=network, steps=100, learning_rate=0.02, rows_per_class=3, decay="cosine"),
    )  # fmt: skip


RECIPES = {"paper": paper, "window": window}
# Table 5's settings for each stream: bases, their resolution and replays. A user's own stream uses the first.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "rotations": {"bases": 24, "resolution": "half", "replays": 4},
    "permutations": {"bases": 8, "resolution": "full", "replays": 20},
    "many": {"bases": 8, "resolution": "full", "replays": 20},
    "many-1000": {"bases": 8, "resolution": "full", "replays": 20},
    "cifar100": {"bases": 24, "resolution": "half", "replays": 4, "network": CONVNET},
    "rotations-60000": {"bases": 24, "resolution": "half", "replays": 2},
    "permutations-60000": {"bases": 8, "resolution": "full", "replays": 2},
}
# Settings that were better than the defaults on validation pictures.
CHOSEN: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("window", "permutations"): {"replays": 10, "average": 0.99, "reuse": False},
    ("window", "many"): {"replays": 10, "reuse": False},
    ("window", "many-1000"): {"replays": 10, "average": 0.99, "reuse": False},
    ("window", "rotations-60000"): {"reuse": False, "settle": 300},
    ("window", "permutations-60000"): {"reuse": False, "settle": 300},
}


def compose_stream(name: str, stream: str, overrides: Iterable[str] = ()) -> StreamMethod:
    """A recipe for a stream, with `field=value` overrides; ValueError with one sentence on what does not fit."""
    if name not in RECIPES:
        raise ValueError(f"unknown method {name!r}; known methods: {', '.join(RECIPES)}")
    recipe = RECIPES[name](**SETTINGS.get(stream, SETTINGS["rotations"]))
    chosen = StreamMethod.model_validate(dict(recipe) | dict(CHOSEN.get((name, stream), {})))
    return overridden(chosen, overrides, fixed=("name", "retraining"))
