"""A pod's rates, measured by iperf3 in both directions: within 10 % of what was asked."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import harness
import pytest

from podway.kernel import namespaces
from podway.model.resources import Bandwidth

pytestmark = pytest.mark.kernel

RATE = 80_000_000


def _measure(server: int, client: int, address: str, reverse: bool) -> float:
    """Bits/s of payload that arrived, over four seconds, the first left out."""
    with namespaces.entered(server):
        serving = subprocess.Popen(
            ["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with namespaces.entered(client):
                command = ["iperf3", "-J", "-t4", "-O1", "-c", address, *(["-R"] if reverse else [])]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            report = json.loads(done.stdout or "{}")
            if "end" in report and "sum_received" in report["end"]:
                return float(report["end"]["sum_received"]["bits_per_second"])
            time.sleep(0.1)  # it doesn't listen yet
        raise AssertionError(done.stdout)
    finally:
        serving.kill()
        serving.wait()


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_rates(tmp_path: Path, in_namespace: int, direction: str) -> None:
    limit = (
        Bandwidth(ingress_rate=RATE, ingress_burst=0xFFFFFFFF)
        if direction == "ingress"
        else Bandwidth(egress_rate=RATE, egress_burst=8_000_000)
    )
    with harness.scene(tmp_path) as scene:
        slow, own = scene.pod("slow", bandwidth=limit)
        fast, _ = scene.pod("fast")
        address = own.addresses[0].partition("/")[0]
        got = _measure(slow, fast, address, reverse=direction == "egress")
        assert 0.9 * RATE <= got <= 1.1 * RATE
        other = _measure(slow, fast, address, reverse=direction == "ingress")
        assert other > 3 * RATE
        ops, refusals, _ = scene.engine.reconciler.plan()
        assert (ops, refusals) == ((), ())


def test_nothing_of_the_shaper_is_left(tmp_path: Path, in_namespace: int) -> None:
    limit = Bandwidth(ingress_rate=RATE, egress_rate=RATE)
    with harness.scene(tmp_path) as scene:
        scene.pod("slow", bandwidth=limit)
        scene.engine.delete("slow", "eth0")
        scene.engine.attachments.burial.complete()
        assert "ifb" not in harness.run("ip", "-d", "link", "show", "type", "ifb")
