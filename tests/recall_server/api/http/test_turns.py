"""What becomes ready together passes one by one, and nobody waits for those who left."""

from __future__ import annotations

import asyncio
from functools import partial

from recall_server.api.http.turns import one_in_a_turn, own_turn


def test_those_who_leave_together_take_one_turn_each() -> None:
    async def scenario() -> list[int]:
        ended: list[int] = []
        seen = []
        for number in range(3):
            one_in_a_turn(partial(ended.append, number))
        for _ in range(4):
            seen.append(len(ended))
            await asyncio.sleep(0)
        one_in_a_turn(partial(ended.append, 3))
        await asyncio.sleep(0)
        assert ended == [0, 1, 2, 3]
        return seen

    assert asyncio.run(scenario()) == [0, 1, 2, 3]


def test_no_two_streams_go_on_in_the_same_turn() -> None:
    async def scenario() -> list[int]:
        turn = 0
        turns = []

        async def stream() -> None:
            await own_turn()
            turns.append(turn)

        streams = [asyncio.create_task(stream()) for _ in range(20)]
        while not all(each.done() for each in streams):
            await asyncio.sleep(0)
            turn += 1
        return turns

    turns = asyncio.run(scenario())
    assert turns == sorted(set(turns))


def test_a_stream_that_ends_while_it_waits_holds_nobody_up() -> None:
    async def scenario() -> None:
        first, second = asyncio.create_task(own_turn()), asyncio.create_task(own_turn())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait_for(second, 1.0)
        assert first.cancelled()

    asyncio.run(scenario())
