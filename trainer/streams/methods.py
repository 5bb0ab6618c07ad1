"""The methods that compress a task while it arrives: the paper's (Table 5), and this project's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recall_server.core.networks import NetworkSpec
from trainer.methods.families.remember_the_past import PAPER, rtp
from trainer.methods.families.remember_the_past import window as windowed
from trainer.methods.method import Method
from trainer.methods.overrides import overridden
from trainer.methods.specs.objectives.unrolled import PerformanceMatchingSpec, SubspaceUnrolledSpec, UnrolledSpec
from trainer.methods.specs.preprocessings import StandardiseSpec
from trainer.methods.specs.starts import PrincipalStart

Count = Annotated[int, Field(ge=1)]
MLP = NetworkSpec(architecture="mlp")


class Stream(BaseModel):
    """The memory of a task has `bases` bases and starts after `start_after` samples of the task.

    With `reuse`, it starts from a finished memory if that has a lower loss. The buffer stores samples as pictures
    (`raw`) or as coefficients of at most `directions` directions (`coded`), of fewer if less than `least_samples`
    samples would fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bases: Count
    start_after: Annotated[int, Field(ge=0)] = 0
    reuse: bool = False
    stored: Literal["raw", "coded"] = "raw"
    directions: Count = 48
    least_samples: Count = 300


class StreamMethod(Method):
    """A method for arriving data: `outer.steps` are taken for every minibatch, on it and on samples of the buffer."""

    stream: Stream

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        for part in (self.queries, self.start, self.preprocessing, self.objective):
            if not part.streams:
                able = [kind for kind, spec in part.kinds.items() if spec.streams]
                raise ValueError(f"a stream cannot use the {part.noun} {part.kind}; use {' or '.join(able)}")
        if self.outer.decay != "constant":
            raise ValueError("how long a stream is is not known; use outer.settle in place of outer.decay")
        if self.memory.storage != "float32":
            raise ValueError("the buffer of a stream holds float32 numbers; use memory.storage=float32")
        return self


def paper(network: NetworkSpec = MLP) -> StreamMethod:
    """The paper's method, with 150 inner steps as for small memories, on all samples of the buffer."""
    method = rtp().varied(
        "paper", citation=f"{PAPER}, appendix A.2", preprocessing=StandardiseSpec(), retraining={"network": network},
        objective=_of(network, steps=150, window=150, rate=0.01, rows_per_class=32, real_batch=1_000_000),
        outer={"steps": 4},
    )  # fmt: skip
    return StreamMethod(**dict(method), stream=Stream(bases=24))


def window(network: NetworkSpec = MLP) -> StreamMethod:
    """Random windows of training, from a start that is computed from the first samples."""
    method = windowed().varied(
        start=PrincipalStart(coefficients="centres"), retraining={"network": network},
        objective=_of(network, steps=60, window=20, rate=0.02, rows_per_class=3, real_batch=30),
        outer={"steps": 4, "decay": "constant", "average": 0.98},
    )  # fmt: skip
    return StreamMethod(**dict(method), stream=Stream(bases=24, start_after=200, reuse=True, stored="coded"))


def _of(network: NetworkSpec, **fields: Any) -> PerformanceMatchingSpec:
    """Performance matching with this network; for an MLP, in the span of the bases."""
    kind = SubspaceUnrolledSpec if network.architecture == "mlp" else UnrolledSpec
    return kind(network=network, **fields)


METHODS = {"paper": paper, "window": window}
NETWORKS: Mapping[str, NetworkSpec] = {"cifar100": NetworkSpec(filters=160)}
FULL = ("stream.bases=8", "memory.resolution=full")
# Settings of Table 5 that differ from those of rotations, which user-defined streams have too.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "permutations": (*FULL, "outer.steps=20"),
    "many": (*FULL, "outer.steps=20"),
    "many-1000": (*FULL, "outer.steps=20"),
    "rotations-60000": ("outer.steps=2",),
    "permutations-60000": (*FULL, "outer.steps=2"),
}
# Settings that were better on validation pictures.
CHOSEN: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("window", "permutations"): ("outer.steps=10", "outer.average=0.99", "stream.reuse=false"),
    ("window", "many"): ("outer.steps=10", "stream.reuse=false"),
    ("window", "many-1000"): ("outer.steps=10", "outer.average=0.99", "stream.reuse=false"),
    ("window", "rotations-60000"): ("stream.reuse=false", "outer.settle=300"),
    ("window", "permutations-60000"): ("stream.reuse=false", "outer.settle=300"),
}


def compose_stream(name: str, stream: str, overrides: Iterable[str] = ()) -> StreamMethod:
    """A method for a stream, with `section.field=value` overrides. Raises ValueError for invalid ones."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known methods: {', '.join(METHODS)}")
    fields = [*SETTINGS.get(stream, ()), *CHOSEN.get((name, stream), ()), *overrides]
    return overridden(METHODS[name](NETWORKS.get(stream, MLP)), fields, fixed=("name", "citation"))
