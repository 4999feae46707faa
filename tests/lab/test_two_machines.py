"""The README's "Two machines", as it stands there, on two machines that share nothing but a network."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from podway.kernel import namespaces
from readme import ROOT, blocks

pytestmark = pytest.mark.kernel

#: its own files for all that Podway, etcd and "ip netns" keep, its own host name and processes
PLACES = ["/var/lib/podway", "/run", "/etc/cni", "/etc/containerd", "/opt/cni", "/var/log"]
PREPARE = """
hostname {name}
for place in {places}; do mount -t tmpfs tmpfs $place; done
ip link set lo up
ip address add {address}/24 dev eth0
ip link set eth0 up
mkdir /run/checkout && cd /run/checkout
for file in {root}/* {root}/.venv; do ln -s $file .; done
"""
END = "-- that was it:"


class Machine:
    """A shell on a machine of its own, which goes on from block to block."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.place = namespaces.create()
        isolated = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with namespaces.entered(self.place):
            self.shell = subprocess.Popen(
                [*isolated, "bash"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={key: value for key, value in os.environ.items() if not key.startswith("PODWAY_")},
            )
        self.prepare = PREPARE.format(name=name, address=address, root=ROOT, places=" ".join(PLACES))

    def run(self, block: str) -> str:
        """What a block prints. Raises AssertionError when one of its commands fails."""
        assert self.shell.stdin is not None and self.shell.stdout is not None
        self.shell.stdin.write(f"set -e\n{block}\nset +e\necho '{END}' 0\n")
        self.shell.stdin.flush()
        lines = []
        for line in self.shell.stdout:
            if line.startswith(END):
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"on {self.name}, one of these failed:\n{block}\n{''.join(lines)}")

    def close(self) -> None:
        self.shell.kill()
        self.shell.communicate()
        os.close(self.place)


@pytest.fixture
def machines(in_namespace: int) -> Iterator[dict[str, Machine]]:
    missing = [place for place in PLACES if not os.path.exists(place)]
    for place in missing:
        os.makedirs(place)  # to mount on
    made = {"east": Machine("east", "192.0.2.1"), "west": Machine("west", "192.0.2.2")}
    paths = [f"/proc/{os.getpid()}/fd/{one.place}" for one in made.values()]
    command = f"ip link add eth0 netns {paths[0]} type veth peer name eth0 netns {paths[1]}"
    subprocess.run(command.split(), check=True)
    try:
        for machine in made.values():
            machine.run(machine.prepare)
        yield made
    finally:
        for machine in made.values():
            machine.close()
        for place in missing:
            os.rmdir(place)


def steps() -> list[tuple[str, str]]:
    """("east", "west" or "both", commands), in the order of the page."""
    made = []
    for text in blocks("Two machines"):
        for part in re.split(r"(?m)^(?=# on )", text):
            head, _, commands = part.partition("\n")
            if head.startswith("# on "):
                made.append((head.removeprefix("# on "), commands))
    return made


def test_the_readme_works_by_copy_and_paste(machines: dict[str, Machine]) -> None:
    shown = ""
    assert [where for where, _ in steps()] == ["both", "east", "both", "east", "west"]
    for where, commands in steps():
        for machine in machines.values() if where == "both" else [machines[where]]:
            shown = machine.run(commands)
    assert "3 received, 0% packet loss" in shown, shown
    assert re.search(r"east .*alive", shown) and re.search(r"west .*alive", shown), shown
    assert re.search(r"10\.244\.1\.0/24 +pods +east", shown), shown
    # and back: what was attached by hand is detached by hand
    west = machines["west"]
    west.run("podway cni check pods demo && podway cni del pods demo && podway cni del pods demo")
    west.run("while podway ipam show | grep -q 10.244.2.10; do sleep 0.1; done")
