"""A BGPPeer that BFD lost, with ``failover: hitless``: only away, its routes stay; dead, they go, whenever it
dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import speakers
from bird_pair import FAR4, NEAR4, Pair, run

from podway.agent import deathwatch
from podway.agent.deathwatch import DeathWatch, watched
from podway.bird.client import Client
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


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the neighbour answered, each time that it was asked."""
    found: list[bool] = []
    ask = deathwatch.answers

    async def answers(address: str, tries: int) -> bool:
        found.append(await ask(address, tries))
        return found[-1]

    monkeypatch.setattr(deathwatch, "answers", answers)
    return found


def watching(pair: Pair, test: Callable[[DeathWatch, Client], Awaitable[None]]) -> None:
    """Two speakers that are up, and a watch that listens, for the test."""

    async def whole() -> None:
        client = pair.a.client
        watch = DeathWatch(asyncio.get_running_loop(), client)
        assert all(watched(one) for one in NEAR.sessions)
        try:
            watch.follow(NEAR.sessions, {})
            async with asyncio.timeout(120):
                await up(client, True)
                await until(learned)
                await test(watch, client)
        finally:
            watch.stop()

    pair.start(FAR, far=True)
    pair.start(NEAR)
    asyncio.run(whole())


async def up(client: Client, wanted: bool) -> None:
    while ({one.state for one in await client.bfd()} == {"Up"}) != wanted:
        await asyncio.sleep(0.05)


def silence(pair: Pair) -> None:
    """What a node that died and one that answers nothing have in common."""
    with namespaces.entered(pair.far):
        run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")


def test_a_peer_that_answers_keeps_its_routes_and_a_dead_one_loses_them(
    pair: Pair, verdicts: list[bool]
) -> None:
    async def test(watch: DeathWatch, client: Client) -> None:
        os.kill(pair.b.pid() or 0, signal.SIGSTOP)  # its kernel answers still
        await up(client, False)
        await until(lambda: verdicts)
        assert all(verdicts) and learned()
        os.kill(pair.b.pid() or 0, signal.SIGCONT)
        await up(client, True)
        silence(pair)
        os.kill(pair.b.pid() or 0, signal.SIGSTOP)
        await until(lambda: not learned())
        # it isn't waited for until it answers: a router may never do so
        while (await client.standings())["p_far"].state == "Down":
            await asyncio.sleep(0.05)
        os.kill(pair.b.pid() or 0, signal.SIGCONT)
        await until(learned)

    watching(pair, test)


def test_a_node_that_no_echo_request_reaches_may_call_again(
    pair: Pair, verdicts: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its routes are gone while its BIRD is away, and aren't for good."""
    monkeypatch.setattr(deathwatch, "MERCY", 2.0)

    async def test(watch: DeathWatch, client: Client) -> None:
        watch.follow([msgspec.structs.replace(one, node=True) for one in NEAR.sessions], {})
        silence(pair)
        os.kill(pair.b.pid() or 0, signal.SIGSTOP)
        await until(lambda: not learned() and watch.dead)
        os.kill(pair.b.pid() or 0, signal.SIGCONT)
        await until(learned)
        assert not watch.dead and not any(verdicts)

    watching(pair, test)


def test_a_kernel_that_dies_after_its_bird_is_noticed(pair: Pair, verdicts: list[bool]) -> None:
    """Of BFD nothing more is heard then: whoever BIRD keeps routes for is asked again and again."""

    async def test(watch: DeathWatch, client: Client) -> None:
        pair.b.kill()
        await until(lambda: len(verdicts) > 2)
        assert all(verdicts) and learned()
        silence(pair)
        await until(lambda: not learned())
        assert verdicts.count(False) == 1

    watching(pair, test)


def test_a_neighbour_that_is_back_is_asked_no_more(pair: Pair, verdicts: list[bool]) -> None:
    async def test(watch: DeathWatch, client: Client) -> None:
        pair.b.kill()
        await until(lambda: verdicts)
        with namespaces.entered(pair.far):
            await pair.b.start(recover=True)
        while await client.keeping():
            await asyncio.sleep(0.05)
        await until(lambda: not watch.judging)
        assert all(verdicts) and learned()

    watching(pair, test)


def test_a_death_that_nobody_saw_is_found_by_the_next_agent(pair: Pair, verdicts: list[bool]) -> None:
    async def test(watch: DeathWatch, client: Client) -> None:
        watch.stop()
        silence(pair)
        pair.b.kill()
        await up(client, False)
        assert learned() and await client.keeping() == await client.keeping("p_far") == ["p_far"]
        successor = DeathWatch(asyncio.get_running_loop(), client)
        try:
            successor.follow(NEAR.sessions, await states(client))
            await until(lambda: not learned())
        finally:
            successor.stop()

    watching(pair, test)


async def states(client: Client) -> dict[str, str]:
    return {name: one.state for name, one in (await client.standings()).items()}
