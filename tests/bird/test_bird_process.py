"""The real BIRD: two speakers in two namespaces, started, adopted, told, killed and ended."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
import speakers
from bird_pair import Pair, run, wait
from msgspec.structs import replace

from podway.bird import process
from podway.bird.process import BirdProcess
from podway.model.bgp import Speaker
from podway.model.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.kernel

FAST: dict[str, Any] = {"hold": 9, "keepalive": 3}
OTHER: dict[str, Any] = (
    speakers.NODE | FAST | {"name": "n_a_9", "neighbor": "192.0.2.1", "local": "192.0.2.2"}
)
A = speakers.speaker(speakers.NODE | FAST)
B = speakers.speaker(OTHER, router_id="192.0.2.2", own=("10.244.2.0/26",))
ROUTE = "10.244.2.0/26 via 192.0.2.2 dev up0 proto bird metric 2048"


def _both(pair: Pair) -> None:
    pair.start(A)
    pair.start(B, far=True)
    wait(lambda: ROUTE in run("ip", "route"))


def test_a_route_comes_by_bgp_and_stays_over_a_crash(pair: Pair) -> None:
    _both(pair)
    (session,) = pair.do(pair.a.client.sessions())
    assert session.established and session.channels["ipv4"].imported == 1
    (route,) = [one for one in pair.do(pair.a.client.routes()) if one.prefix == "10.244.2.0/26"]
    assert (route.session, route.via, route.best) == ("n_b_1234", ("192.0.2.2",), True)
    pair.a.kill()
    assert ROUTE in run("ip", "route")
    pair.start(A, recover=True)
    wait(lambda: pair.do(pair.a.client.sessions())[0].established)
    assert ROUTE in run("ip", "route")


def test_it_is_adopted_and_told_something_new(pair: Pair) -> None:
    """A session that a change is not about stays up."""
    _both(pair)
    (before,) = pair.do(pair.a.client.sessions())
    adopted = BirdProcess(pair.a.directory)
    assert adopted.pid() == pair.a.pid() is not None
    new = speakers.speaker(speakers.NODE | FAST, speakers.TOR | FAST | {"neighbor": "192.0.2.9"})
    pair.do(adopted.tell(pair.text(new, pair.a)))
    assert adopted.installed() == pair.text(new, pair.a)
    found = {one.name: one for one in pair.do(adopted.client.sessions())}
    assert found["n_b_1234"] == before and not found["p_tor_5678"].established


def test_slow_to_write_its_number_it_is_waited_for(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BIRD's command returns before the process in the background has written its number: no second start."""
    real = process._executable()
    slow = tmp_path / "slow-bird"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *-P*) (exec setsid sh -c \'sleep 0.5; exec {real} "$@"\' {real} "$@") '
        f'</dev/null >/dev/null 2>&1 & exit 0;; esac\nexec {real} "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setattr(process, "_executable", lambda: str(slow))
    pair.start(A)
    assert pair.a.pid() is not None


def test_one_whose_number_was_never_written_is_adopted_and_ended(pair: Pair) -> None:
    """An agent killed just after it started BIRD leaves one that nobody has written down."""
    pair.start(A)
    before = pair.a.pid()
    (pair.a.directory / "bird.pid").unlink()
    assert pair.a.pid() is None
    assert pair.a.adopt() == pair.a.pid() == before is not None
    (pair.a.directory / "bird.pid").unlink()
    pair.do(pair.a.end())
    assert pair.a.adopt() is None


def test_what_it_refuses_is_not_installed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether ``bird -p`` refuses it, or only the BIRD that runs; nor is what that has not answered to."""
    text = pair.text(A, pair.a)
    pair.start(A)
    with pytest.raises(InvalidInput, match="syntax error"):
        pair.do(pair.a.tell(text + "\nnonsense\n"))
    with monkeypatch.context() as patched:
        patched.setattr(pair.a, "check", lambda _: asyncio.sleep(0))  # leaves what was tried before
        with pytest.raises(InvalidInput, match=r"BIRD refuses: .*syntax error"):
            pair.do(pair.a.tell(text + "\nnonsense\n"))
    os.kill(pair.a.pid() or 0, 19)
    with monkeypatch.context() as patched:
        patched.setattr("podway.bird.client.PATIENCE", 0.3)
        with pytest.raises(Unavailable, match="no answer"):
            pair.do(pair.a.tell(text + "\n"))
    os.kill(pair.a.pid() or 0, 18)
    assert pair.a.installed() == text and pair.do(pair.a.client.sessions())


def test_ended_for_good_its_routes_go(pair: Pair) -> None:
    _both(pair)
    pair.do(pair.a.end())
    assert pair.a.pid() is None
    with pytest.raises(Unavailable, match="does not answer"):
        pair.do(pair.a.client.sessions())


def _six(speaker: Speaker, **more: Any) -> Speaker:
    """The same with a session for IPv6 beside each."""
    ends = {"neighbor": speaker.sessions[0].neighbor, "local": speaker.sessions[0].local}
    six = {end: address.replace("192.0.2.", "2001:db8::") for end, address in ends.items()}
    (four,) = speaker.sessions
    other = replace(four, name=f"{four.name}6", ipv4=False, ipv6=True, **six)
    return replace(speaker, sessions=(four, other), **more)


def test_two_birds_in_one_table_leave_each_others_routes_alone(pair: Pair, tmp_path: Path) -> None:
    """An operator's own BIRD has the default metric and looks every second; Podway's, every ten."""
    own = tmp_path / "own.conf"
    own.write_text(
        "router id 192.0.2.1; protocol device {} protocol kernel { scan time 1; ipv4 { export all; }; }\n"
        "protocol static { ipv4; route 10.9.0.0/24 blackhole; }\n"
        "protocol kernel { scan time 1; ipv6 { export all; }; }\n"
        "protocol static { ipv6; route fd00:9::/64 blackhole; }\n"
    )
    six = "fd00:10:244:0:2::/122"
    files = [f"{tmp_path}/own.ctl", f"{tmp_path}/own.pid"]
    run("bird", "-c", str(own), "-s", files[0], "-P", files[1])
    try:
        pair.start(_six(A))
        pair.start(_six(B, own=("10.244.2.0/26", six)), far=True)
        wait(lambda: ROUTE in run("ip", "route") and six in run("ip", "-6", "route"))
        time.sleep(11)
        shown, of_six = run("ip", "route"), run("ip", "-6", "route")
        assert ROUTE in shown and "blackhole 10.9.0.0/24 proto bird metric 32" in shown
        assert f"{six} via 2001:db8::2 dev up0 proto bird" in of_six
        assert "blackhole fd00:9::/64 dev lo proto bird metric 32" in of_six
        pair.do(pair.a.end())
        assert "blackhole 10.9.0.0/24" in run("ip", "route")
        assert "blackhole fd00:9::/64" in run("ip", "-6", "route")
    finally:
        os.kill(int(Path(files[1]).read_text()), 9)


def test_a_password_that_differs_and_a_hung_bird(pair: Pair) -> None:
    """And none but root reads the file that has it."""
    pair.start(speakers.speaker(speakers.NODE | FAST | {"password": "a b;}"}))
    holding = [file for file in pair.a.directory.iterdir() if file.is_file() and "a b;}" in file.read_text()]
    assert holding and all(file.stat().st_mode & 0o077 == 0 for file in holding)
    pair.start(B, far=True)
    time.sleep(2)
    assert not pair.do(pair.a.client.sessions())[0].established
    os.kill(pair.a.pid() or 0, 19)
    with pytest.raises(Unavailable, match="no answer"):
        pair.do(pair.a.client.sessions())
    os.kill(pair.a.pid() or 0, 18)


def test_missing_or_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bird = BirdProcess(tmp_path)
    assert asyncio.run(bird.version()) >= "2.0"
    old = tmp_path / "bird"
    old.write_text("#!/bin/sh\necho BIRD version 1.6.8 >&2\n")
    old.chmod(0o755)
    monkeypatch.setattr(process, "_executable", lambda: str(old))
    with pytest.raises(Unavailable, match=r"too old: BIRD version 1\.6\.8"):
        asyncio.run(bird.version())
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(Unavailable, match="not installed"):
        asyncio.run(bird.version())
