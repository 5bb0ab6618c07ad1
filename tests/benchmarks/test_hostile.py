"""The benchmark of hostile requests in its quick form: it ends in one line of JSON, and no attack is a 5xx."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks import attacks, hostile

TARGET = attacks.Target("127.0.0.1", 1, "key", "training", "classifier")


@pytest.mark.process
def test_an_honest_caller_is_served_during_every_attack(capsys: pytest.CaptureFixture[str]) -> None:
    hostile.main(["--quick"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["server_errors"] == 0, figures["statuses_by_attack"]
    assert not figures["refusals_without_a_problem_document"]
    assert set(figures["statuses_by_attack"]) == {attack.name for attack in attacks.ATTACKS}
    assert figures["during"]["recalls"] > 0
    assert not figures["during"]["errors"]
    assert not figures["probes_without_an_answer"]
    assert figures["during"]["live_p99_ms"] <= figures["during"]["live_max_ms"] < 60_000
    assert figures["bundles"] == sorted(hostile.BUNDLES), "no bundle with a hostile encoder is served"
    assert figures["exit_code_of_sigterm"] == 0


@pytest.mark.parametrize("attack", attacks.ATTACKS, ids=lambda attack: attack.name)
def test_every_attack_is_bytes_of_a_request(attack: attacks.Attack) -> None:
    chance = random.Random(1)
    sent = [attack.make(TARGET, chance) for _ in range(3)]
    assert all(sent)
    if attack.name != "garbage":
        assert all(b"\r\nHost: 127.0.0.1:1\r\n" in each for each in sent)


def test_refusals_are_counted_by_kind() -> None:
    outcome = attacks.Outcome()
    for answer in (
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n\r\n{}",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nx",
        b"",
    ):
        outcome.add(answer)
    assert outcome.statuses == {200: 1, 404: 1, 500: 1, 0: 1}
    assert outcome.other_refusals == {500: 1}
