"""The cache of recently used values."""

from __future__ import annotations

from recall_server.service.bounded_cache import BoundedCache


def test_the_least_recently_used_values_are_evicted_first() -> None:
    cache: BoundedCache[str] = BoundedCache(100)
    for name in "abcd":
        cache.put(name, name, 25)
    assert cache.get("a") == "a"
    cache.put("e", "e", 25)
    assert [cache.get(name) for name in "abcde"] == ["a", None, "c", "d", "e"]
    assert cache.bytes == 100


def test_a_value_replaces_the_previous_one_of_its_key() -> None:
    cache: BoundedCache[str] = BoundedCache(100)
    cache.put("a", "old", 20)
    cache.put("a", "new", 10)
    assert (cache.get("a"), cache.bytes) == ("new", 10)


def test_a_value_larger_than_a_quarter_of_the_cache_is_not_cached() -> None:
    cache: BoundedCache[str] = BoundedCache(100)
    cache.put("a", "small", 10)
    cache.put("a", "large", 26)
    assert (cache.get("a"), cache.bytes) == (None, 0)


def test_values_that_nobody_uses_are_dropped() -> None:
    now = 0.0
    cache: BoundedCache[str] = BoundedCache(100, clock=lambda: now)
    for name in "abc":
        cache.put(name, name, 10)
    now = 50.0
    assert cache.get("a") == "a"
    cache.drop_unused(30.0)
    assert ([cache.get(name) for name in "abc"], cache.bytes) == (["a", None, None], 10)
    now = 100.0
    cache.drop_unused(30.0)
    assert (cache.get("a"), cache.bytes) == (None, 0)
