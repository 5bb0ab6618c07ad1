"""The `--set` options in the documentation name fields of a method, a stream, a schedule, a head or a promise."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from tests.docs.pages import ROOT
from trainer.methods.named import METHODS, compose
from trainer.methods.overrides import overridden
from trainer.starts.features.linear_head import HeadSettings
from trainer.starts.private.class_statistics import Privacy
from trainer.streams import methods as streams

OPTION = re.compile(r"--set\s+([a-z][a-z_.]*=[^\s`]+)")
PAGES = [path for folder in ("", "artifacts", "docs") for path in sorted((ROOT / folder).glob("*.md"))]
OPTIONS = sorted(
    {option for page in PAGES for option in OPTION.findall(page.read_text()) if option.islower()} - {"field=value"}
)
SCHEDULE = Retraining(network=NetworkSpec(), steps=1, learning_rate=0.01, rows_per_class=1)
COMPOSERS: Sequence[Callable[[list[str]], object]] = [
    *(partial(compose, name) for name in METHODS),
    *(partial(streams.compose_stream, name, "rotations") for name in streams.METHODS),
    partial(overridden, SCHEDULE),
    partial(overridden, Privacy()),
    partial(overridden, HeadSettings()),
]
# The kind of a part whose fields the default kind does not have.
KINDS = {"preprocessing": "preprocessing=zca", "objective.attack": "objective.attack=pgd"}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_documented_set_option_is_accepted_by_a_method(option: str) -> None:
    kind = [chosen for section, chosen in KINDS.items() if option.startswith(f"{section}.")]
    errors = []
    for composer in COMPOSERS:
        try:
            composer([*kind, option])
            return
        except ValueError as error:
            errors.append(str(error))
    pytest.fail(f"no method takes {option}: {errors[0]}")


def test_options_are_found() -> None:
    assert {"objective.window=40", "schedule=own", "outer.draws=4"} <= set(OPTIONS)
