"""What every spec can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.methods.specs.spec import Spec


@dataclass(frozen=True)
class Part:
    steps: int
    rate: float
    device: str


class ExampleSpec(Spec):
    kind: Literal["example"] = "example"
    steps: int = 3
    rate: float = 0.5
    unused: int = 0


def test_a_spec_hands_over_its_fields_by_name_unless_others_are_given() -> None:
    assert ExampleSpec(steps=7).make(Part, device="cpu", rate=0.1) == Part(steps=7, rate=0.1, device="cpu")
