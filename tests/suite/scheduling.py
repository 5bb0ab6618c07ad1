"""Which of several test processes runs what (pytest-xdist).

The unit of work is a file, because fixtures of a module are made once in each process. Where the tests of a folder
share a server, the unit is the folder. Units that start processes take longest and come first, so that the many short
ones level the load at the end.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = ("tests/docs/", "tests/page/", "tests/clients/")  # folders with one server for all their tests


def unit_of(nodeid: str) -> str:
    """The unit of work that a test belongs to: its file, or the folder whose tests share a server."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in SHARED if file.startswith(folder)), file)


class LongestFirst(LoadScopeScheduling):
    """Hands out units in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LongestFirst:
    return LongestFirst(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest units first: folders in the order of SHARED, then files that start processes, then the rest."""
    slow = {unit_of(item.nodeid) for item in items if item.get_closest_marker("process")}

    def rank(item: pytest.Item) -> tuple[int, int]:
        unit = unit_of(item.nodeid)
        return (SHARED.index(unit), 0) if unit in SHARED else (len(SHARED), int(unit not in slow))

    items.sort(key=rank)
