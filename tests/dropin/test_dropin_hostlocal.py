"""``host-local`` beside the reference's, both releases: the same addresses, answers, files at each step."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from differential import debian, release
from dropin_lab import CniFailed, Lab

pytestmark = pytest.mark.kernel

RESOLV = "nameserver 10.9.9.9\nnameserver fd00::9\ndomain example.org\nsearch a.org b.org\noptions ndots:2\n"
#: what a plugin is called for: ADD or DEL of a container, with what more
ADD, DEL = "ADD", "DEL"
THREE = [(ADD, "a"), (ADD, "b"), (ADD, "c")]
FREED = [(DEL, "a"), (DEL, "a"), (DEL, "c"), (DEL, "e")]
AGAIN = [*THREE, (ADD, "d"), (DEL, "b"), (ADD, "e"), *FREED, (ADD, "f")]

CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "a part of a subnet, used up": (
        {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.12"},
        AGAIN,
    ),
    "a small subnet": ({"subnet": "10.1.0.0/29"}, [*AGAIN, (ADD, "g"), (ADD, "h"), (ADD, "i"), (ADD, "j")]),
    "a gateway of one's own": ({"subnet": "10.1.0.0/29", "gateway": "10.1.0.3"}, AGAIN),
    "only a start": ({"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.5"}, AGAIN),
    "only an end": ({"subnet": "10.1.0.0/29", "rangeEnd": "10.1.0.3"}, AGAIN),
    "a subnet of 30 bits": ({"subnet": "10.1.0.0/30"}, THREE),
    "sets of several ranges": (
        {
            "ranges": [
                [{"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.0/24", "rangeEnd": "10.2.0.3"}],
                [{"subnet": "fd00:1::/64", "rangeStart": "fd00:1::8", "gateway": "fd00:1::fe"}],
            ]
        },
        AGAIN,
    ),
    "routes and name servers": (
        {
            "subnet": "10.1.0.0/24",
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.7.0.0/16", "gw": "10.1.0.9"}],
            "resolvConf": "RESOLV",
        },
        THREE[:1],
    ),
    "asked for by the runtime": (
        {"subnet": "10.1.0.0/24"},
        [
            (ADD, "a", {"runtimeConfig": {"ips": ["10.1.0.77"]}}),
            (ADD, "b", {"runtimeConfig": {"ips": ["10.1.0.77"]}}),
            (ADD, "c", {"runtimeConfig": {"ips": ["10.1.0.78/24"]}}),
            (ADD, "d", {"args": {"cni": {"ips": ["10.1.0.79"]}}}),
            (ADD, "e", {"CNI_ARGS": "IP=10.1.0.80"}),
            (ADD, "f"),
        ],
    ),
    "asked for what can't be had": (
        {"subnet": "10.1.0.0/24"},
        [
            (ADD, "a", {"runtimeConfig": {"ips": ["10.9.0.1"]}}),
            (ADD, "b", {"runtimeConfig": {"ips": ["10.1.0.1"]}}),  # the gateway's
            (ADD, "c", {"runtimeConfig": {"ips": ["10.1.0.0"]}}),
            (ADD, "d", {"runtimeConfig": {"ips": ["fd00::1"]}}),
        ],
    ),
    "ranges of the runtime's": (
        {"subnet": "10.1.0.0/24"},
        [(ADD, "a", {"runtimeConfig": {"ipRanges": [[{"subnet": "10.5.0.0/24"}]]}}), (ADD, "b"), (DEL, "a")],
    ),
    "a start outside": ({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}, THREE[:1]),
    "sets that overlap": ({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/25"}]]}, THREE[:1]),
    "no range": ({}, THREE[:1]),
    "a subnet with host bits": ({"subnet": "10.1.0.5/24"}, THREE[:1]),
}


class Reference:
    """The executable of a release, by itself."""

    def __init__(self, directory: str) -> None:
        self._executable = Path(directory) / "host-local"

    def call(self, command: str, conf: dict[str, Any], container: str, **more: str) -> dict[str, Any]:
        """As ``Lab.call``."""
        env = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/none"}
        env |= {"CNI_IFNAME": "eth0", "CNI_PATH": str(self._executable.parent), **more}
        text = json.dumps(conf).encode()
        done = subprocess.run([self._executable], input=text, env=env, capture_output=True)
        document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        if done.returncode:
            raise CniFailed(document)
        return document


class Ours:
    """Podway's, for a pod that is there."""

    def __init__(self, lab: Lab, pod: str) -> None:
        self._lab, self._pod = lab, pod

    def call(self, command: str, conf: dict[str, Any], container: str, **more: str) -> dict[str, Any]:
        """As ``Lab.call``."""
        return self._lab.call(command, conf, container, namespace=f"/run/netns/{self._pod}", **more)


def history(side: Reference | Ours, version: str, case: str, data: Path, resolv: Path) -> list[Any]:
    """Of each step: what was answered ("refused" for an error), and every file with its content."""
    ipam, steps = CASES[case]
    settings = {"type": "host-local", "dataDir": str(data)} | ipam
    if "resolvConf" in settings:
        settings["resolvConf"] = str(resolv)
    made: list[Any] = []
    for command, container, *rest in steps:
        more = dict(rest[0]) if rest else {}
        env = {key: more.pop(key) for key in ("CNI_ARGS",) if key in more}
        conf = {"cniVersion": version, "name": "net", "type": "host-local", "ipam": settings} | more
        try:
            answer: Any = side.call(command, conf, container, **env)
            if not answer.get("dns"):
                answer.pop("dns", None)  # Debian's release prints an empty one
        except CniFailed:
            answer = "refused"
        files = kept(data / "net")
        if answer == "refused":  # the reference has counted on before it refuses
            files = {name: held for name, held in files.items() if not name.startswith("last_reserved")}
        made.append((command, container, answer, files))
    return made


def kept(directory: Path) -> dict[str, bytes]:
    """Reservations, and where the next search begins."""
    names = os.listdir(directory) if directory.is_dir() else []
    return {name: (directory / name).read_bytes() for name in names if name != "lock"}


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_as_the_reference_does(lab: Lab, pod: str, tmp_path: Path, version: str) -> None:
    """Every spelling of a range, from the first address to the last and around, requests and mistakes."""
    lab.start()
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(RESOLV)
    sides = {"ours": Ours(lab, pod), "Debian's": Reference(debian().directory)}
    sides["1.9.1"] = Reference(release().directory)
    for number, case in enumerate(CASES):
        found = {
            name: history(side, version, case, tmp_path / f"{name}{number}", resolv)
            for name, side in sides.items()
        }
        for other in ("Debian's", "1.9.1"):
            for own, theirs in zip(found["ours"], found[other], strict=True):
                assert own == theirs, (case, other)
