"""API keys: who is let in, how far, and that no key is ever repeated."""

from __future__ import annotations

import hashlib

import pytest

from recall_server.config import ApiKeys, Scope, check_scope
from recall_server.errors import Forbidden, Unauthorised

SECRET, OTHER = "0123456789abcdef-secret", "fedcba9876543210-other!"


def test_a_key_may_be_configured_as_itself_or_as_its_digest() -> None:
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    keys = ApiKeys.parse(f" reader:read:{SECRET}, boss:ADMIN:sha256={digest} ,")
    assert [(keys.identify(key).name, keys.identify(key).scope) for key in (SECRET, OTHER)] == [
        ("reader", Scope.READ),
        ("boss", Scope.ADMIN),
    ]
    assert SECRET not in repr(keys)


@pytest.mark.parametrize(
    "presented", [None, "", SECRET[:-1], SECRET + "x", SECRET.upper(), "sha256=" + "0" * 64, "\udcff"]
)
def test_unknown_keys_are_refused(presented: str | None) -> None:
    with pytest.raises(Unauthorised):
        ApiKeys.parse(f"reader:read:{SECRET}").identify(presented)


def test_scopes_include_those_below() -> None:
    (key,) = ApiKeys.parse(f"t:train:{SECRET}").keys
    check_scope(key, Scope.READ)
    check_scope(key, Scope.TRAIN)
    with pytest.raises(Forbidden, match="'t' has the scope train, but this takes admin"):
        check_scope(key, Scope.ADMIN)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SECRET, "write NAME:SCOPE:KEY"),
        (f"a b:read:{SECRET}", "write NAME:SCOPE:KEY"),
        (f"a:write:{SECRET}", "the scope must be read, train, admin"),
        ("a:read:tooshort", "16 printable ASCII characters"),
        (f"a:read:{SECRET} x", "without blanks"),
        ("a:read:sha256=0123", "64 hexadecimal digits"),
        (f"a:read:{SECRET},a:train:{OTHER}", "key 2: its name or the key itself is given twice"),
        (f"a:read:{SECRET},b:train:{SECRET}", "key 2: its name or the key itself is given twice"),
    ],
)
def test_a_mistake_is_reported_without_the_key(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=".") as caught:
        ApiKeys.parse(text)
    assert sentence in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "tooshort" not in str(caught.value)


def test_empty_settings_give_no_keys() -> None:
    assert not ApiKeys.parse(" , ")
    assert ApiKeys.parse(f"a:read:{SECRET}")
