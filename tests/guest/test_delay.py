"""Delay needs netem."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.guest


def test_links_are_slow_by_what_the_topology_says() -> None:
    """A segment's 100 ms once for each packet that passes it and a node's 50 ms each way: 300 ms there and
    back, and nothing on a link that has no delay."""
    script = Path(__file__).with_name("delay.py")
    done = subprocess.run([sys.executable, "-B", script], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert 300 <= found["far"] < 450 and found["near"] < 100, found
