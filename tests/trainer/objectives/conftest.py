"""Fixtures of objectives."""

from __future__ import annotations

import pytest

from tests.trainer.objectives.inner_steps import INNER_STEPS
from trainer.objectives.inner.steps.step import AbstractInnerStep


@pytest.fixture(params=INNER_STEPS)
def step(request: pytest.FixtureRequest) -> AbstractInnerStep:
    """An inner step of the NETWORK of the test's module."""
    return INNER_STEPS[request.param](request.module.NETWORK)
