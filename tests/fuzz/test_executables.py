"""Proves the same of the executables themselves, with an agent and without: what a runtime really gets.

``test_calls`` has the thousands. No agent of these tests has a DHCP server, which it would wait a minute for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import PLUGINS, SLOWEST, Calls, is_one_document

from podway.cni.install import EXECUTABLE
from podway.cni.protocol import Answer, Call

sys.path.append(str(Path(__file__).parents[1] / "dropin"))
from dropin_lab import COMPILED, Lab, buried, links, pods, wait_for

pytestmark = pytest.mark.kernel

NAMES = tuple(name for name in PLUGINS if name != "dhcp")
FEW, FEWER = 150, 3  # calls of each name: of the agent, and of a Python that starts for each


@pytest.fixture
def lab(in_namespace: int, tmp_path: Path) -> Iterator[Lab]:
    """A node without an agent yet, with links to be masters and devices."""
    made = Lab(tmp_path)
    shutil.copy(COMPILED, made.bin / EXECUTABLE)
    for name, peer in (("fm0", "fm1"), ("fd0", "fd1")):
        subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer], check=True)
    try:
        yield made
    finally:
        made.stop()


def execute(lab: Lab, call: Call, pod: str) -> Answer:
    """The executable's answer, within the time that a runtime has."""
    env = {"PATH": os.environ["PATH"], **call.env}
    if env["CNI_NETNS"].startswith("/proc/self/fd/"):
        env["CNI_NETNS"] = f"/run/netns/{pod}"
    raw = {key.encode(): value.encode("utf-8", "surrogatepass") for key, value in env.items()}
    executable, stdin = lab.bin / call.argv0, call.stdin.replace(b'"dhcp"', b'"static"')
    began = time.monotonic()
    done = subprocess.run(
        [executable], input=stdin, env=raw, capture_output=True, timeout=60, cwd=lab.directory
    )
    assert time.monotonic() - began < SLOWEST, call
    assert done.returncode >= 0, (call, done)
    return Answer(stdout=done.stdout, exit_code=done.returncode)


@pytest.mark.parametrize("way", ["agent", "in-process"])
def test_what_a_runtime_gets(lab: Lab, way: str) -> None:
    """One document or nothing on stdout, in time; afterwards all names work, and nothing is left."""
    pod = f"fz{os.getpid()}"
    if way == "agent":
        lab.start()
    with pods(pod):
        before, there, made = set(links("veth")), set(os.listdir(lab.directory)), 0
        for name in NAMES:
            source = Calls(name, 7, lab.directory, 0, 0)
            for _ in range(FEW if way == "agent" else FEWER):
                call = source.call()
                if not call.env["CNI_COMMAND"]:
                    continue  # is asked about itself: tests/cni/test_shim.py
                given = execute(lab, call, pod)
                is_one_document(call, given)
                if given.exit_code == 0 and call.env["CNI_COMMAND"] == "ADD":
                    made += 1
                    gone = Call(argv0=name, env={**call.env, "CNI_COMMAND": "DEL"}, stdin=call.stdin)
                    assert execute(lab, gone, pod).exit_code == 0, call
        assert made > 30 or way != "agent"
        wait_for(lambda: set(links("veth")) == before and buried(lab), "no veth of a pod")
        new = set(os.listdir(lab.directory)) - there - {"state"}
        assert all(name.startswith("data") or name == "etc" for name in new), new  # a dataDir, odd or not
        assert not list(lab.directory.rglob("MARK"))
        assert lab.process is None or lab.process.poll() is None
        assert lab.podway("plan") == "nothing to change\n"
