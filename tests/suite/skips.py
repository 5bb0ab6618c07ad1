"""What a run skips. Under continuous integration (`CI` is set) only tests that need CUDA may be skipped.

Any other skipped test fails there. Elsewhere, the end of a run lists what was skipped and what to install.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import pytest

NO_CUDA = "no CUDA: these tests need an NVIDIA GPU"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why this test, or this file, was skipped."""
    return str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""


def refused_under_ci(report: Report) -> Report:
    """The report; under CI, a skipped one fails unless CUDA is what is missing."""
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if os.environ.get("CI") and skipped and reason_of(report) != NO_CUDA:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} may not be skipped under CI: {reason_of(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return refused_under_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return refused_under_ci((yield))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", []))
    if not reasons:
        return
    terminalreporter.section("skipped")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} {'test' if count == 1 else 'tests'}: {reason}")
