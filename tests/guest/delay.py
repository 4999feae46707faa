"""Wires a lab with slow links in namespaces of its own, and prints round trips in ms as JSON. No agents."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys

from podway.lab import weather
from podway.lab.topology import Segment, Weather, Wish, build
from podway.lab.wiring import wire

LAB = build(
    (
        Segment(name="left", cidrs=("192.0.2.0/24",)),
        Segment(name="right", cidrs=("203.0.113.0/24",), weather=Weather(delay=100)),
    ),
    (
        Wish(name="a", role="node", segments=("left",)),
        Wish(name="b", role="node", segments=("right",), weather=Weather(delay=50)),
        Wish(name="r", role="router", segments=("left", "right")),
    ),
    (),
)
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000


def main() -> None:
    """See the module."""
    assert ctypes.CDLL(None).unshare(CLONE_NEWNS | CLONE_NEWNET) == 0
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    os.makedirs("/run/netns")
    weather.require(LAB)
    wire(LAB)
    found = {"far": rtt("a", "203.0.113.1"), "near": rtt("a", "192.0.2.254")}
    print(json.dumps(found))


def rtt(sender: str, target: str) -> float:
    """The least of some round trips."""
    command = ["ip", "netns", "exec", sender, "ping", "-c", "5", "-i", "0.5", "-q", target]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    least = re.search(r"= ([0-9.]+)/", text)
    assert least, text
    return float(least[1])


if __name__ == "__main__":
    sys.exit(main())
