"""Which of several test processes runs what (pytest-xdist).

The unit of work is a file, because fixtures of a module are made once in each process. Where several files share a
server or a Ray cluster, these files are a unit. Units that start processes take longest and come first, so that the
many short ones level the load at the end.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

# What several files share, and these files and folders; the longest first.
SHARED = {
    "the server of the documentation": ("tests/docs/",),
    "a Ray cluster": (
        "tests/benchmarks/test_ray_cluster.py",
        "tests/recall_server/jobs/workers/test_contract.py",
        "tests/recall_server/jobs/workers/test_ray.py",
        "tests/trainer/cli/grid/",
        "tests/trainer/cli/test_evaluate.py",
        "tests/trainer/run/search/test_select_bases.py",
    ),
    "the server of the page": ("tests/page/",),
    "the server of the client": ("tests/clients/",),
}


def unit_of(nodeid: str) -> str:
    """The unit of work that a test belongs to: its file, or what its file shares with others."""
    file = nodeid.partition("::")[0]
    return next((unit for unit, places in SHARED.items() if file.startswith(places)), file)


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
    """Put the longest units first: those of SHARED in their order, then files that start processes, then the rest."""
    slow = {unit_of(item.nodeid) for item in items if item.get_closest_marker("process")}
    ranks = {unit: (rank, 0) for rank, unit in enumerate(SHARED)}

    def rank(item: pytest.Item) -> tuple[int, int]:
        unit = unit_of(item.nodeid)
        return ranks.get(unit, (len(SHARED), int(unit not in slow)))

    items.sort(key=rank)
