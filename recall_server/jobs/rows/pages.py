"""Pages of the table of jobs: which jobs there are, and the records of some of them.

A reader who knows what a revision of a job looks like need not read its record again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from recall_server.jobs.rows.records import ClassifierRecord, Listed, Page
from recall_server.jobs.rows.table import jobs, record_of

LONGEST_PAGE = 2**19  # characters of the records on one page


def page(connection: Connection, limit: int, before: int | None) -> Page:
    """The jobs from the row below `before` on, newest first.

    At most `limit` jobs, and at most LONGEST_PAGE characters of their records, but one at least.
    """
    query = select(jobs.c.number, jobs.c.id, jobs.c.events, func.length(jobs.c.request))
    query = query.order_by(jobs.c.number.desc()).limit(limit + 1)
    found = connection.execute(query if before is None else query.where(jobs.c.number < before)).all()
    lengths = itertools.accumulate(row[-1] for row in found)
    fitting = max(1, sum(length <= LONGEST_PAGE for length in lengths))
    entries = tuple(Listed(*row[:-1]) for row in found[: min(limit, fitting)])
    return Page(entries=entries, next=str(entries[-1].number) if len(found) > len(entries) else None)


def records(connection: Connection, entries: Iterable[Listed]) -> list[ClassifierRecord]:
    """The records of jobs, newest first, without those that were removed meanwhile."""
    numbers = [entry.number for entry in entries]
    query = select(jobs).where(jobs.c.number.in_(numbers)).order_by(jobs.c.number.desc())
    return [record_of(row) for row in connection.execute(query)] if numbers else []
