"""The cache keeps what is asked for, within its bytes."""

from __future__ import annotations

from recall_server.api.state.answer_cache import OVERHEAD, Answer, AnswerCache

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
