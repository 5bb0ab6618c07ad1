"""Marks for tests that need something of the machine. The reason of each mark says what to install."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import pytest
import torch

from tests.suite.skips import NO_CUDA

# Programs that tests run, and the Debian packages that have them. `.ci/run` installs these packages.
PACKAGES = {
    "chromium-headless-shell": "chromium-headless-shell",
    "curl": "curl",
    "g++": "g++",
    "openssl": "openssl",
    "pg_ctlcluster": "postgresql",
    "sha256sum": "coreutils",
    "systemd-analyze": "systemd",
}
# The shell without windows computes half as long as the whole browser, which is used where the shell is missing.
CHROMIUM = Path(shutil.which("chromium-headless-shell") or "/usr/bin/chromium")
FASHION_MNIST = Path(os.environ.get("RECALL_DATA", ""), "fashion-mnist")


def missing(program: str) -> str:
    """Return the reason for which a test that needs this program is skipped."""
    return f"no {program}: install it (apt-get install {PACKAGES[program]})"


def needs(program: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where this program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=missing(program))


NO_COMPILER = missing("g++")
NO_TRITON = "no Triton: torch brings it on Linux with an x86-64 processor"

needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason=missing("chromium-headless-shell"))
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA)
needs_fashion_mnist = pytest.mark.skipif(
    not all((FASHION_MNIST / name).is_file() for name in ("train.npz", "test.npz")),
    reason="no Fashion-MNIST: RECALL_DATA must name a folder with fashion-mnist/train.npz and test.npz "
    "(docs/own-data.md describes these files)",
)
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc: these tests are about its malloc")
needs_postgresql = needs("pg_ctlcluster")
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="no /proc: these tests read there what Linux says of a process"
)
