"""The agent's keeper of BIRD: what it does when BIRD dies, hangs, refuses or finds its port taken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import speakers
from bird_pair import wait

from podway.agent import speaker as keeping
from podway.agent.hanging import pulse
from podway.agent.speaker import BirdKeeper
from podway.bird import process
from podway.bird.process import BirdProcess
from podway.plan.bgp import Told

pytestmark = pytest.mark.kernel

ALONE = speakers.speaker(speakers.NODE)


class Kept:
    """A keeper on a loop of its own, told what ``told`` is."""

    def __init__(self, directory: Path) -> None:
        self.told = Told(ALONE)
        self.keeper = BirdKeeper(asyncio.get_running_loop(), directory, lambda: self.told)
        self.looks, look = 0, self.keeper._look

        async def counted() -> None:
            await look()
            self.looks += 1

        self.keeper._look = counted

    async def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (condition, self.keeper.status())
            await asyncio.sleep(0.05)

    async def looked(self) -> None:
        """Until it has looked once more, from begin to end."""
        before = self.looks
        await self.until(lambda: self.looks >= before + 2)

    async def started(self) -> int:
        self.keeper.follow()
        await self.until(lambda: self.keeper.status().pid and self.keeper.status().peers[0].state != "-")
        return self.keeper.status().pid or 0


def kept(directory: Path, test: Callable[[Kept], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a keeper; no BIRD is left."""

    async def whole() -> None:
        made = Kept(directory)
        try:
            await test(made)
        finally:
            made.keeper.stop()

    try:
        asyncio.run(whole())
    finally:
        BirdProcess(directory).kill()


def ails(one: Kept, words: str) -> bool:
    """Whether that is told as a problem."""
    return any(words in text for text in one.keeper.status().problems)


def test_killed_it_is_back_at_once_and_adopted_it_is_left_alone(tmp_path: Path, in_namespace: int) -> None:
    async def test(one: Kept) -> None:
        first = await one.started()
        os.kill(first, signal.SIGKILL)
        await one.until(lambda: one.keeper.status().pid not in (None, first))
        second = one.keeper.status().pid
        one.keeper.stop()
        successor = BirdKeeper(asyncio.get_running_loop(), tmp_path, lambda: one.told)
        successor.follow()
        await one.until(lambda: successor.status().version)
        assert successor.status().pid == second
        one.keeper = successor
        await one.until(
            lambda: any("BGP session with node b" in text for text in successor.status().problems)
        )

    kept(tmp_path, test)


def test_one_that_ends_again_and_again_is_left_for_longer(tmp_path: Path, in_namespace: int) -> None:
    async def test(one: Kept) -> None:
        for _ in range(3):
            one.keeper.follow()
            await one.until(lambda: one.keeper.process.pid() is not None)
            killed = one.keeper.process.pid() or 0
            os.kill(killed, signal.SIGKILL)
            await one.until(lambda killed=killed: one.keeper.process.pid() != killed)  # type: ignore[misc]
        await one.until(lambda: any("times in a row" in text for text in one.keeper.status().problems))
        await one.until(lambda: one.keeper.process.pid() is not None)
        last = one.keeper.process.pid()
        assert last is not None
        os.kill(last, signal.SIGKILL)
        # no session's peer is to blame, and none is counted as lost by it
        await one.until(lambda: [(p.why, p.flaps) for p in one.keeper.status().peers] == [(keeping.NONE, 0)])

    kept(tmp_path, test)


@pytest.mark.parametrize("seen", ["it does nothing", "it does not answer"])
def test_one_that_hangs_is_killed_and_started_anew(
    tmp_path: Path, in_namespace: int, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    """Soon where it is seen to do nothing, and else after it has not answered twice."""
    monkeypatch.setattr("podway.bird.client.PATIENCE", 1000.0 if seen == "it does nothing" else 0.5)
    monkeypatch.setattr(keeping, "POLL", 0.2)

    async def test(one: Kept) -> None:
        first = await one.started()
        if seen != "it does nothing":
            monkeypatch.setattr(keeping, "pulse", lambda pid: None)
        os.kill(first, signal.SIGSTOP)
        await one.until(lambda: one.keeper.status().pid not in (None, first))

    kept(tmp_path, test)


def test_where_the_agent_could_not_ask_nobody_hangs(
    tmp_path: Path, in_namespace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that isn't let run takes its own silence for nobody else's."""
    monkeypatch.setattr(keeping, "POLL", 0.01)

    async def test(one: Kept) -> None:
        first = await one.started()
        for _ in range(30):
            await asyncio.sleep(0.02)
            time.sleep(0.6)  # the loop does not turn
        await one.looked()
        assert one.keeper.status().pid == first

    kept(tmp_path, test)


def test_who_does_something_does_not_hang(in_namespace: int) -> None:
    """One that spins has no pulse that stands still, one that sleeps or is stopped has."""
    with (
        subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy,
        subprocess.Popen(["sleep", "60"]) as idle,
    ):
        try:
            wait(lambda: pulse(idle.pid) is not None)
            assert pulse(idle.pid) is not None and pulse(idle.pid) == pulse(idle.pid)
            for _ in range(20):
                before = pulse(busy.pid)
                time.sleep(0.05)
                assert before is None or before != pulse(busy.pid)
            busy.send_signal(signal.SIGSTOP)
            wait(lambda: pulse(busy.pid) is not None)
            assert pulse(busy.pid) is not None and pulse(busy.pid) == pulse(busy.pid)
        finally:
            busy.kill()
            idle.kill()
    assert pulse(busy.pid) is None


@pytest.mark.parametrize("away", ["hung", "being installed anew"])
def test_what_bird_did_not_answer_to_is_told_again(
    tmp_path: Path, in_namespace: int, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """It was not refused: a BIRD that hangs, or whose package is just being replaced, gets it afterwards."""
    monkeypatch.setattr("podway.bird.client.PATIENCE", 0.5)
    monkeypatch.setattr(keeping, "POLL", 0.2)

    async def test(one: Kept) -> None:
        first = await one.started()
        before = one.keeper.process.installed()
        with monkeypatch.context() as patched:
            if away == "hung":
                os.kill(first, signal.SIGSTOP)
            else:
                patched.setattr(process, "_executable", lambda: "/nowhere/bird")
            one.told = Told(msgspec.structs.replace(ALONE, draining=True))
            one.keeper.follow()
            words = "does not answer" if away == "hung" else "can't be run: No such file"
            await one.until(lambda: ails(one, words))
        await one.until(lambda: one.keeper.process.installed() != before)
        await one.until(lambda: not ails(one, words))

    kept(tmp_path, test)


def test_what_bird_refuses_does_not_replace_what_it_runs_with(
    tmp_path: Path, in_namespace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "POLL", 0.2)

    async def test(one: Kept) -> None:
        first = await one.started()
        before = one.keeper.process.installed()
        bad = msgspec.structs.replace(ALONE, uplinks=("up0", "up1"))
        true_render = keeping.render
        monkeypatch.setattr(
            keeping, "render", lambda s, log: true_render(s, log) + ("nonsense\n" if s == bad else "")
        )
        one.told = Told(bad)
        one.keeper.follow()
        for _ in range(3):  # it is told for as long as it is so
            await one.until(lambda: ails(one, "would not take"))
            await one.looked()
        assert one.keeper.process.installed() == before and one.keeper.status().pid == first
        os.kill(first, signal.SIGKILL)  # one that is started anew has what it had
        await one.until(lambda: one.keeper.status().pid not in (None, first))
        first = one.keeper.status().pid or 0
        await one.until(lambda: ails(one, "would not take"))
        assert one.keeper.process.installed() == before
        one.told = Told(msgspec.structs.replace(ALONE, draining=True))
        one.keeper.follow()
        await one.until(lambda: one.keeper.process.installed() != before and not ails(one, "would not take"))
        assert one.keeper.status().pid == first

    kept(tmp_path, test)


def test_a_taken_port_is_named_and_another_one_helps(tmp_path: Path, in_namespace: int) -> None:
    async def test(one: Kept) -> None:
        with contextlib.closing(socket.socket()) as other:
            other.bind(("0.0.0.0", 179))
            other.listen()
            one.keeper.follow()
            await one.until(lambda: any("179 is taken by" in text for text in one.keeper.status().problems))
            assert one.keeper.status().pid is None
            one.told = Told(msgspec.structs.replace(ALONE, port=1790))
            await one.started()

    kept(tmp_path, test)


def test_a_router_is_named_before_what_is_lost_with_it(tmp_path: Path, in_namespace: int) -> None:
    async def test(one: Kept) -> None:
        far = speakers.NODE | {"neighbor": "203.0.113.2", "multihop": 64}
        one.told = Told(speakers.speaker(far, speakers.TOR))
        await one.started()
        await one.until(lambda: len(one.keeper.status().problems) == 2)
        near, beyond = one.keeper.status().problems
        assert "(192.0.2.2): " in near and "node b (203.0.113.2): " in beyond

    kept(tmp_path, test)


def test_without_bgp_there_is_no_bird(tmp_path: Path, in_namespace: int) -> None:
    async def test(one: Kept) -> None:
        await one.started()
        one.told = Told(None)
        one.keeper.follow()
        await one.until(lambda: one.keeper.process.pid() is None)
        assert one.keeper.status() == keeping.BgpStatus()

    kept(tmp_path, test)
