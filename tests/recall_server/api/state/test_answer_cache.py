"""The caches keep what is asked for, within their bytes."""

from __future__ import annotations

from collections.abc import Iterable

from recall_server.api.state.answer_cache import OVERHEAD, Answer, AnswerCache, WrittenRecords
from recall_server.jobs.rows.records import ClassifierRecord, Listed
from tests.recall_server.job_examples import record

SIZE = 1000
WHOLE = SIZE + OVERHEAD


def answer(seed: int) -> Answer:
    return Answer.of(bytes([seed]) * SIZE, "image/png")


def test_answers_that_are_used_stay_and_others_are_evicted() -> None:
    cache = AnswerCache(4 * WHOLE)
    for seed in range(4):
        cache.put(seed, answer(seed))
    assert cache.bytes == 4 * WHOLE
    assert cache.get(0) == answer(0)
    cache.put(4, answer(4))
    assert [cache.get(seed) is not None for seed in range(5)] == [True, False, True, True, True]
    assert cache.bytes == 4 * WHOLE


def test_an_answer_put_twice_counts_once() -> None:
    cache = AnswerCache(10 * WHOLE)
    cache.put("key", answer(1))
    cache.put("key", answer(2))
    assert (cache.get("key"), cache.bytes) == (answer(2), WHOLE)


def test_an_answer_that_would_evict_most_others_is_not_cached() -> None:
    cache = AnswerCache(4 * WHOLE - 1)
    cache.put("key", answer(1))
    assert (cache.get("key"), cache.bytes) == (None, 0)
    nothing = AnswerCache(0)
    nothing.put("key", answer(1))
    assert nothing.get("key") is None


def test_an_etag_is_of_the_bytes() -> None:
    assert answer(1).etag == answer(1).etag != answer(2).etag
    assert answer(1).etag.startswith('"') and answer(1).etag.endswith('"')


def test_a_record_is_read_and_written_once_for_each_revision() -> None:
    written, read = WrittenRecords(100 * WHOLE), list[str]()
    present = {"1": record("1"), "2": record("2"), "3": record("3")}

    def records(entries: Iterable[Listed]) -> list[ClassifierRecord]:
        read.extend(f"{entry.id}, {entry.revision}" for entry in entries)
        return [present[entry.id] for entry in entries if entry.id in present]

    def page(*entries: Listed) -> list[str]:
        read.clear()
        return list(written.of(entries, records, lambda each: f"JSON of {each.id}"))

    three, two, one = Listed(3, "3", 1), Listed(2, "2", 1), Listed(1, "1", 1)
    assert page(three, two, one) == ["JSON of 3", "JSON of 2", "JSON of 1"]
    assert read == ["3, 1", "2, 1", "1, 1"]
    assert page(three, Listed(2, "2", 2), one) == ["JSON of 3", "JSON of 2", "JSON of 1"]
    assert read == ["2, 2"], "only what has changed"
    del present["2"]
    assert page(Listed(2, "2", 3), one) == ["JSON of 1"], "a job that was removed meanwhile is left out"
    written.drop_unused(0)
    page(one)
    assert read == ["1, 1"]


def test_long_names_count_with_the_memory_that_they_take() -> None:
    emoji = "\U0001f600" * SIZE  # four bytes each in Python's memory
    written, read = WrittenRecords(4 * 3 * SIZE), list[str]()

    def records(entries: Iterable[Listed]) -> list[ClassifierRecord]:
        read.extend(entry.id for entry in entries)
        return [record(entry.id) for entry in entries]

    for _ in range(2):
        assert list(written.of([Listed(1, "1", 1)], records, lambda _: emoji)) == [emoji]
    assert read == ["1", "1"], "more than a quarter of the cache is not kept"
