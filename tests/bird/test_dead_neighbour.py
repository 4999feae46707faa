"""A BGPPeer that BFD lost, with ``failover: hitless``: only away, its routes stay; dead, they go."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import speakers
from bird_pair import FAR4, NEAR4, Pair, run

from podway.agent import deathwatch
from podway.agent.deathwatch import DeathWatch, watched
from podway.kernel import namespaces

pytestmark = pytest.mark.kernel

PEER: dict[str, Any] = {
    "description": "",
    "node": False,
    "bfd": "graceful",
    "graceful": "on",
    "hold": 240,
    "keepalive": 80,
}
NEAR = speakers.speaker(speakers.NODE | PEER | {"name": "p_far", "remote_as": 65001})
FAR = speakers.speaker(
    speakers.NODE
    | PEER
    | {"name": "p_near", "neighbor": NEAR4, "local": FAR4, "remote_as": 64512, "local_as": 65001},
    router_id=FAR4,
    own=("10.244.2.0/26",),
)


def learned() -> bool:
    return "10.244.2.0/26" in run("ip", "route", "show", "proto", "bird")


async def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, condition
        await asyncio.sleep(0.05)


def test_a_peer_that_answers_keeps_its_routes_and_a_dead_one_loses_them(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts: list[bool] = []
    ask = deathwatch.answers

    async def answers(address: str) -> bool:
        verdicts.append(await ask(address))
        return verdicts[-1]

    monkeypatch.setattr(deathwatch, "answers", answers)

    async def test() -> None:
        client = pair.a.client
        watch = DeathWatch(asyncio.get_running_loop(), client)
        assert all(watched(one) for one in NEAR.sessions)

        async def up(wanted: bool) -> None:
            while ({one.state for one in await client.bfd()} == {"Up"}) != wanted:
                await asyncio.sleep(0.05)

        try:
            watch.follow(NEAR.sessions, {})
            async with asyncio.timeout(60):
                await up(True)
                await until(learned)
                os.kill(pair.b.pid() or 0, signal.SIGSTOP)  # its kernel answers still
                await up(False)
                await until(lambda: verdicts)
                assert all(verdicts) and learned()
                os.kill(pair.b.pid() or 0, signal.SIGCONT)
                await up(True)
            async with asyncio.timeout(60):
                with namespaces.entered(pair.far):
                    run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
                os.kill(pair.b.pid() or 0, signal.SIGSTOP)
                await until(lambda: not learned())
                # it isn't waited for until it answers: a router may never do so
                while (await client.standings())["p_far"].state == "Down":
                    await asyncio.sleep(0.05)
                os.kill(pair.b.pid() or 0, signal.SIGCONT)
                await until(learned)
        finally:
            watch.stop()

    pair.start(FAR, far=True)
    pair.start(NEAR)
    asyncio.run(test())
