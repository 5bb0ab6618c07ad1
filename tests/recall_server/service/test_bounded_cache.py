"""The cache of recently used values."""

from __future__ import annotations

from recall_server.service.bounded_cache import BoundedCache


def test_values_that_were_used_longest_ago_are_dropped_first() -> None:
    cache: BoundedCache[str] = BoundedCache(100)
    for name in "abcd":
        cache.put(name, name, 25)
    assert cache.get("a") == "a"
    cache.put("e", "e", 25)
    assert [cache.get(name) for name in "abcde"] == ["a", None, "c", "d", "e"]
    assert cache.bytes == 100


def test_a_value_takes_the_place_of_the_one_before_it() -> None:
    cache: BoundedCache[str] = BoundedCache(100)
    cache.put("a", "old", 20)
    cache.put("a", "new", 10)
    assert (cache.get("a"), cache.bytes) == ("new", 10)


def test_a_value_of_more_than_a_quarter_is_not_kept() -> None:
    cache: BoundedCache[str] = BoundedCache(100)
    cache.put("a", "small", 10)
    cache.put("a", "large", 26)
    assert (cache.get("a"), cache.bytes) == (None, 0)
