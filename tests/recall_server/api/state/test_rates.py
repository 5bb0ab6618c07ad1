"""What one caller uses up is its own."""

from __future__ import annotations

import pytest

from recall_server.api.state.rates import Rates
from recall_server.config.settings import rate
from recall_server.errors import Overloaded


def test_each_caller_has_its_own_number_of_requests() -> None:
    rates = Rates(rate("3/hour"), None)
    for _ in range(3):
        rates.admit("key a")
    with pytest.raises(Overloaded, match="key a has used up its 3 requests per 1 hour") as caught:
        rates.admit("key a")
    assert 1 <= caught.value.retry_after <= 120
    rates.admit("key b")


def test_work_is_charged_afterwards_and_may_overdraw_once() -> None:
    rates = Rates(None, rate("100/minute"))
    rates.admit("key a")
    rates.pay("key a", 99)
    rates.admit("key a")
    rates.pay("key a", 5000)
    with pytest.raises(Overloaded, match="its 100 pictures"):
        rates.admit("key a")
    rates.admit("key b")


def test_without_limits_nobody_is_refused() -> None:
    rates = Rates(rate(""), rate(""))
    for _ in range(1000):
        rates.admit("key a")
        rates.pay("key a", 10**9)
