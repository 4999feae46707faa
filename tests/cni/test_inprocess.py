"""A call without an agent: the same answers, one writer at a time, nothing but the answer on stdout.

The engine is a recorder here; its opener stands for the writer lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cni_fakes import RecordingEngine, conf, environment, open_descriptors, serving

from podway.cni import home, inprocess
from podway.cni.protocol import Answer
from podway.kernel import namespaces
from podway.model.errors import Busy, InvalidInput
from podway.node.requests import Engine

OPTIONS = {"node": "n1", "state-dir": "/s", "store": "sqlite:/x"}


class Opener:
    """Opens the engine after having been busy ``busy`` times; ``opened`` counts the attempts."""

    def __init__(self, engine: RecordingEngine, busy: int = 0, failure: Exception | None = None) -> None:
        self.engine, self.busy, self.failure = engine, busy, failure
        self.opened = 0
        self.closed = 0

    @contextlib.contextmanager
    def __call__(self, node: str, state_dir: str, store: str) -> Iterator[Engine]:
        assert {"node": node, "state-dir": state_dir, "store": store} == OPTIONS
        self.opened += 1
        if self.failure:
            raise self.failure
        if self.opened <= self.busy:
            raise Busy("another process writes", state_dir)
        try:
            yield self.engine
        finally:
            self.closed += 1


def carry_out(
    monkeypatch: pytest.MonkeyPatch, opener: Opener, body: Any, command: str = "DEL", patience: float = 5.0
) -> Answer:
    for name in [name for name in os.environ if name.startswith("CNI_")]:
        monkeypatch.delenv(name)
    for name, value in environment(command).items():
        monkeypatch.setenv(name, value)
    return inprocess.carry_out(json.dumps(body).encode(), OPTIONS, opener, patience)


def test_the_same_answer(monkeypatch: pytest.MonkeyPatch, pod_namespace: int) -> None:
    opener = Opener(RecordingEngine())
    before = open_descriptors()
    assert carry_out(monkeypatch, opener, conf()) == Answer(0)
    assert json.loads(carry_out(monkeypatch, opener, conf(), "ADD").stdout)["code"] == 8
    monkeypatch.setenv("CNI_NETNS", f"/proc/self/fd/{pod_namespace}")
    found = json.loads(inprocess.carry_out(json.dumps(conf()).encode(), OPTIONS, opener).stdout)
    assert found["interfaces"][2]["sandbox"] == f"/proc/self/fd/{pod_namespace}"
    assert opener.closed == opener.opened == 3
    assert [asked[0] for asked in opener.engine.asked] == ["delete", "add"]
    assert open_descriptors() - before == set()


def test_while_another_call_writes_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    opener = Opener(RecordingEngine(), busy=3)
    assert carry_out(monkeypatch, opener, conf(socket="/nobody")) == Answer(0)
    assert (opener.opened, len(opener.engine.asked)) == (4, 1)


@pytest.mark.kernel
def test_an_agent_that_came_up_meanwhile_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    agents, own = RecordingEngine(), RecordingEngine()
    path = str(tmp_path / "s")

    def later() -> None:
        time.sleep(0.2)
        with serving(path, agents):
            done.wait(10)

    done = threading.Event()
    thread = threading.Thread(target=later)
    thread.start()
    assert carry_out(monkeypatch, Opener(own, busy=10**6), conf(socket=path)) == Answer(0)
    done.set()
    thread.join()
    assert (len(agents.asked), own.asked) == (1, [])


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("DEL", 11), ("STATUS", 50)])
def test_busy_for_too_long(monkeypatch: pytest.MonkeyPatch, command: str, code: int) -> None:
    opener = Opener(RecordingEngine(), busy=10**6)
    answer = carry_out(monkeypatch, opener, conf(cniVersion="1.1.0"), command, patience=0.1)
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["code"] == code
    assert opener.engine.asked == []


@pytest.mark.parametrize(
    ("failure", "code"),
    [(OSError(30, "Read-only file system"), 5), (InvalidInput("x"), 7), (ValueError(), 100)],
)
def test_an_engine_that_can_not_be_opened(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, code: int
) -> None:
    answer = carry_out(monkeypatch, Opener(RecordingEngine(), failure=failure), conf(cniVersion="0.4.0"))
    assert json.loads(answer.stdout)["code"] == code
    assert json.loads(answer.stdout)["cniVersion"] == "0.4.0"


@pytest.mark.parametrize(
    "arguments", [[], ["--node"], ["--node", "a"], ["--node", "a", "--state-dir", "b", "--x", "c"]]
)
def test_wrong_arguments(arguments: list[str]) -> None:
    with pytest.raises(InvalidInput, match="arguments"):
        inprocess.parse_options(arguments)


SCRIPT = textwrap.dedent("""
    import contextlib, os, sys
    from podway.cni import inprocess
    class Noisy:
        def delete(self, container, ifname, namespace_fd):
            print("a print"); os.write(1, b"a write"); os.system("echo a child")
    @contextlib.contextmanager
    def opener(node, state_dir, store):
        yield Noisy()
    inprocess._opener = opener
    sys.exit(inprocess.main(sys.argv[1:]))
""")


@pytest.mark.parametrize(("body", "code"), [(conf(), None), ({}, 7), ([], 6)])
def test_stdout_carries_the_answer_only(body: Any, code: int | None) -> None:
    argv = [sys.executable, "-I", "-c", SCRIPT, "--node", "n", "--state-dir", "/s", "--store", "sqlite:"]
    done = subprocess.run(
        argv, input=json.dumps(body).encode(), env={**environment("DEL"), "PATH": "/bin"}, capture_output=True
    )
    if code is None:
        assert (done.returncode, done.stdout) == (0, b"")
        assert b"a child" in done.stderr
    else:
        assert done.returncode == 1 and json.loads(done.stdout)["code"] == code


def test_it_starts_without_what_it_does_not_need() -> None:
    """Start-up is most of what a call without an agent costs."""
    script = "import sys; from podway.cni import inprocess; import podway.node.engine; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "argparse", "click", "rich", "yaml", "subprocess", "podway.cni.server"}
    assert not loaded & {"h11", "ssl", "jinja2", "prometheus_client", "podway.store.etcd_client"}


# --- whose state ------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_a_caller_in_another_namespace_has_a_state_of_its_own(tmp_path: Path, pod_namespace: int) -> None:
    state = str(tmp_path)
    assert home.of_caller("n1", state) == ("n1", state)
    home.claim(state)
    assert home.of_caller("n1", state) == ("n1", state)
    with namespaces.entered(pod_namespace):
        node, directory = home.of_caller("n1", state)
        assert node.startswith("n1-ns") and directory.startswith(f"{state}/elsewhere/")
        assert home.of_caller("n1", state) == (node, directory)
    assert home.of_caller("n1", state) == ("n1", state)


@pytest.mark.kernel
def test_a_claim_of_an_earlier_boot_is_void_and_its_leavings_go(tmp_path: Path, pod_namespace: int) -> None:
    old = tmp_path / "elsewhere" / "earlier-7"
    old.mkdir(parents=True)
    (tmp_path / "namespace").write_text("earlier 7\n")
    assert home.of_caller("n1", str(tmp_path)) == ("n1", str(tmp_path))
    home.claim(str(tmp_path))
    with namespaces.entered(pod_namespace):
        home.of_caller("n1", str(tmp_path))
    assert not old.exists()
