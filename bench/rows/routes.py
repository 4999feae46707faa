"""Routes programmed per second, in one process that stays, against ``ip -batch``."""

from __future__ import annotations

import ipaddress
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.host import Host, host
from bench.measure import Row, Sample, in_turn, median_row
from podway.kernel.rtnetlink import Rtnetlink
from podway.model.objects import Op, Route

COUNT = 20_000
FIRST = int(ipaddress.ip_address("10.0.0.0"))
GATEWAY = "192.0.2.2"


def _prefixes() -> list[str]:
    return [f"{ipaddress.ip_address(FIRST + 256 * number)}/24" for number in range(COUNT)]


def programmed(rounds: int, directory: Path) -> list[Row]:
    """Twenty thousand /24 routes through one gateway into an empty table."""
    batch = directory / "routes"
    lines = (f"route add {prefix} via {GATEWAY} dev up0 proto 112\n" for prefix in _prefixes())
    batch.write_text("".join(lines))
    ops = [Op(want=Route(dst=prefix, via=GATEWAY, dev="up0"), have=None) for prefix in _prefixes()]
    with host("routes") as node:
        node.run("ip link add up0 type veth peer name up1")
        node.run("ip addr add 192.0.2.1/24 dev up0")
        node.run("ip link set up1 up")
        node.run("ip link set up0 up")
        with node.entered():
            netlink = Rtnetlink()
        try:
            sides = {"ours": _timed(node, lambda: _apply(netlink, ops)), "ip": _timed(node, _batch(batch))}
            taken = in_turn(sides, rounds)
        finally:
            netlink.close()
    return [median_row("routes / ip -batch", "/s", taken["ours"]["rate"], taken["ip"]["rate"], "routes")]


def _apply(netlink: Rtnetlink, ops: list[Op]) -> None:
    failed = [result.error for result in netlink.apply(ops) if result.errno]
    if failed:
        raise RuntimeError(f"{len(failed)} routes failed: {failed[0]}")


def _batch(path: Path) -> Callable[[], None]:
    def run() -> None:
        subprocess.run(["ip", "-batch", path], check=True)

    return run


def _timed(node: Host, program: Callable[[], None]) -> Callable[[], Sample]:
    """Routes per second; all of them are counted, then removed outside of the time."""

    def sample() -> Sample:
        with node.entered():
            start = time.perf_counter()
            program()
            took = time.perf_counter() - start
        found = node.run("ip route show proto 112").count("\n")
        if found != COUNT:
            raise RuntimeError(f"{found} of {COUNT} routes are in the kernel")
        node.run("ip route flush proto 112")
        return {"rate": COUNT / took}

    return sample
