"""Threads of the trainer that wait for each other sleep, so that a busy machine does not slow them down."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = "import trainer.__main__, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("given", "counts"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(given: str | None, counts: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == [counts, "True"]


def test_the_policy_is_set_before_torch_is_loaded() -> None:
    check = "import sys, trainer; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
