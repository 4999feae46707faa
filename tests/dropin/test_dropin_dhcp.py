"""``dhcp`` with a real server: under our bridge and by itself, and a lease's whole life."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dhcp_server import BRIDGE, SERVER, Dhcpd, segment, theirs
from dropin_lab import CniFailed, Lab, ip, wait_for

from podway.observe import client

pytestmark = pytest.mark.kernel

POINTS = [  # before the first of them nobody but the server knows of the lease, which runs out
    *("add.journalled", "add.wired", "add.inside", "add.finished"),
    *(
        "delete.begin",
        "delete.journalled",
        "inside.undone",
        "delete.detached",
        "delete.buried",
        "delete.finished",
    ),
]
SHORT = ("--dhcp-option=option:T1,3", "--dhcp-option=option:T2,6")  # seconds


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[Dhcpd]:
    """A segment with a server, and an agent."""
    with segment(tmp_path) as made:
        lab.start()
        yield made


def conf(**ipam: Any) -> dict[str, Any]:
    dhcp = {"type": "dhcp", **ipam}
    return {"cniVersion": "1.1.0", "name": "lan", "type": "bridge", "bridge": BRIDGE, "ipam": dhcp}


def address(pod: str) -> list[str]:
    """IPv4 addresses of the pod's interface, if that is up."""
    (link,) = ip("-4", "addr", "show", "eth0", inside=pod) or [{"flags": [], "addr_info": []}]
    return [one["local"] for one in link["addr_info"] if "UP" in link["flags"]]


def doctor(lab: Lab) -> list[str]:
    """What it says of leases."""
    lines = lab.podway("doctor", "--socket", lab.socket).splitlines()
    return [line for line in lines if "DHCP" in line]


def get_leases(lab: Lab) -> str:
    """The whole table."""
    command = [sys.executable, "-m", "podway", "get", "leases", "-o", "wide", "--socket", lab.socket]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_pod_of_ours_comes_and_goes(lab: Lab, server: Dhcpd, pod: str) -> None:
    """Address, gateway and default route are the server's; CHECK holds, DEL gives the address back."""
    server.start()
    result = lab.call("ADD", conf(), pod)
    (found,) = result["ips"]
    assert (found["gateway"], found["interface"]) == (SERVER, 2)
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": SERVER}]
    own = found["address"].removesuffix("/24")
    assert address(pod) == [own] == server.leases
    assert ip("route", "show", "default", inside=pod)[0]["gateway"] == SERVER
    assert ip("link", "show", "eth0", inside=pod)[0]["address"] == result["interfaces"][2]["mac"]
    subprocess.run(
        ["ip", "netns", "exec", pod, "ping", "-c1", "-W10", SERVER], check=True, capture_output=True
    )
    lab.call("CHECK", conf(), pod, before=result)
    lab.call("DEL", conf(), pod, namespace="")
    lab.call("DEL", conf(), pod, namespace="")
    wait_for(lambda: not server.leases, "the address is given back")
    assert server.said("DHCPRELEASE") == 1


def test_a_link_in_the_pod_alone(lab: Lab, server: Dhcpd, pod: str) -> None:
    """A macvlan on the segment, which is known by its own MAC."""
    server.start()
    body = {**conf(), "type": "macvlan", "master": BRIDGE}
    result = lab.call("ADD", body, pod)
    assert address(pod) == server.leases == [result["ips"][0]["address"].removesuffix("/24")]
    mac = ip("link", "show", "eth0", inside=pod)[0]["address"]
    assert result["interfaces"][0]["mac"] == mac and mac in server.log
    lab.call("CHECK", body, pod, before=result)
    lab.call("DEL", body, pod, before=result)
    wait_for(lambda: not server.leases, "the address is given back")
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]


def test_what_is_asked_and_provided(lab: Lab, server: Dhcpd, pod: str) -> None:
    """Names and numbers, values and arguments; classless routes are instead of the router."""
    server.start(50, "--dhcp-option=121,10.7.0.0/16,10.61.0.9")
    ipam = {
        "request": [{"option": "121"}, {"option": "subnet-mask", "skipDefault": True}],
        "provide": [{"option": "host-name", "value": "one"}, {"option": "60", "fromArg": "K8S_POD_NAME"}],
        "priority": 77,
    }
    arguments = "IgnoreUnknown=1;K8S_POD_NAME=shop"
    result = lab.call("ADD", conf(**ipam), pod, CNI_ARGS=arguments)
    assert result["routes"] == [{"dst": "10.7.0.0/16", "gw": "10.61.0.9", "priority": 77}]
    assert "gateway" not in result["ips"][0]
    assert "client provides name: one" in server.log and "vendor class: shop" in server.log
    asked = [line for line in server.log.splitlines() if "requested options:" in line]
    assert asked and all("121:classless-static-route" in one and "3:router" not in one for one in asked)
    lab.call("DEL", conf(**ipam), pod, CNI_ARGS=arguments)


def test_a_classless_route_without_a_router(lab: Lab, server: Dhcpd, pod: str, other_pod: str) -> None:
    """It is on the link, though there is a gateway too: told and made as by the reference."""
    server.start(50, f"--dhcp-option=121,10.7.0.0/16,0.0.0.0,10.8.0.0/16,{SERVER}")
    body = conf(request=[{"option": "121"}], daemonSocketPath=f"{lab.directory}/dhcp.sock")
    answers, routes = [], []
    for one, by in ((other_pod, theirs(lab)), (pod, contextlib.nullcontext())):
        with by:
            answers.append(lab.call("ADD", body, one)["routes"])
        found = ip("route", inside=one)
        shown = ("dst", "gateway", "scope")
        routes.append([{k: each[k] for k in shown if k in each} for each in found if "prefsrc" not in each])
    assert (
        answers[0]
        == answers[1]
        == [
            {"dst": "10.7.0.0/16", "gw": "0.0.0.0", "scope": 253},
            {"dst": "10.8.0.0/16", "gw": SERVER},
        ]
    )
    assert routes[0] == routes[1]
    assert {"dst": "10.7.0.0/16", "scope": "link"} in routes[1]
    lab.call("DEL", body, pod)


def test_a_device_of_the_nodes_gets_a_lease(lab: Lab, server: Dhcpd, pod: str) -> None:
    """The pod has it before its address is known, and the node has it again."""
    server.start()
    for command in ("ip link add hd0 type veth peer hd1", f"ip link set hd1 master {BRIDGE} up"):
        subprocess.run(command.split(), check=True)
    body = {**conf(), "type": "host-device", "device": "hd0"}
    result = lab.call("ADD", body, pod)
    assert address(pod) == server.leases == [result["ips"][0]["address"].removesuffix("/24")]
    assert ip("route", "show", "default", inside=pod)[0]["gateway"] == SERVER
    lab.call("CHECK", body, pod, before=result)
    lab.call("DEL", body, pod, before=result)
    wait_for(lambda: not server.leases, "the address is given back")
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]
    assert ip("link", "show", "hd0")


def test_renewed_rebound_and_over_a_restart(lab: Lab, server: Dhcpd, pod: str) -> None:
    """At T1 by the server, at T2 by whichever is there; a killed agent goes on from its journal."""
    server.start(50, *SHORT)
    result = lab.call("ADD", conf(), pod)
    (own,) = address(pod)
    granted = server.said("DHCPACK")
    wait_for(lambda: server.said("DHCPACK") > granted, "renewed")
    lab.stop(signal.SIGKILL)
    lab.start()
    granted = server.said("DHCPACK")
    wait_for(lambda: server.said("DHCPACK") > granted, "renewed after a restart")
    server.stop()
    subprocess.run(["ip", "-n", server.namespace, "addr", "del", f"{SERVER}/24", "dev", "srv0"], check=True)
    subprocess.run(["ip", "-n", server.namespace, "addr", "add", "10.61.0.2/24", "dev", "srv0"], check=True)
    server.start(50, *SHORT, "--dhcp-authoritative")
    granted = server.said("DHCPACK(srv0)")
    again = "rebound by another server, and renewed by it"  # half of what is left is waited for each time
    wait_for(lambda: server.said("DHCPACK(srv0)") > granted + 1, again, patience=120)
    assert address(pod) == [own] and server.said("DHCPNAK") == 0
    lab.call("CHECK", conf(), pod, before=result)
    lab.call("DEL", conf(), pod, before=result)
    wait_for(lambda: not server.leases)


def test_a_refusal_takes_the_interface_down(lab: Lab, server: Dhcpd, pod: str) -> None:
    """A server that lends other addresses only: CHECK and the journal say it, DEL works."""
    server.start(50, *SHORT)
    result = lab.call("ADD", conf(), pod)
    server.stop()
    server.start(90, *SHORT, "--dhcp-authoritative")
    wait_for(lambda: not address(pod), "the interface is down")
    assert server.said("DHCPNAK")
    with pytest.raises(CniFailed, match="is lost: the server refused to extend it") as failed:
        lab.call("CHECK", conf(), pod, before=result)
    assert failed.value.code == 101
    wait_for(lambda: "refused to extend" in lab.podway("journal"))
    (found,) = doctor(lab)
    ended = f"from server {SERVER} ended at 2"
    assert all(
        part in found for part in (pod[:12], "interface eth0 network lan", ended, "start the container")
    )
    (listed,) = client.leases(str(lab.directory / "agent.sock"))
    assert listed.state == "lost" and listed.ends < time.time()
    lab.call("DEL", conf(), pod, before=result)
    wait_for(lambda: not doctor(lab))


def test_a_server_that_is_away_is_named_before_the_lease_ends(lab: Lab, server: Dhcpd, pod: str) -> None:
    """From the first question that nobody answers until one is answered, as `podway get leases` shows."""
    options = (SHORT[0], "--dhcp-option=option:T2,43")  # asked again after 20 s, 10, 6
    server.start(50, *options)
    lab.call("ADD", conf(), pod)
    (own,) = address(pod)
    shown = get_leases(lab).splitlines()
    assert shown[1].split()[:5] == [pod[:12], "eth0", "lan", f"{own}/24", "held"] and SERVER in shown[1]
    assert not doctor(lab)
    server.stop()
    wait_for(lambda: doctor(lab), "the agent asks in vain")
    (found,) = doctor(lab)
    assert f"lease of {own}/24 from server {SERVER} is not extended since" in found and "it ends at" in found
    assert "unanswered" in get_leases(lab) and address(pod) == [own]
    server.start(50, *options)
    wait_for(lambda: not doctor(lab), "it is extended")
    assert "held" in get_leases(lab)
    lab.call("DEL", conf(), pod)
    wait_for(lambda: get_leases(lab) == "no leases\n")


def test_it_runs_out(lab: Lab, server: Dhcpd, pod: str) -> None:
    """While the server is away, and the agent too: the next one takes the interface down."""
    import sqlite3

    server.start()
    lab.call("ADD", conf(), pod)
    server.stop()
    lab.stop(signal.SIGKILL)
    with sqlite3.connect(lab.state / "node.db") as database:
        database.execute(
            "UPDATE piece SET value = json_set(value, '$.want.renew_at', 1.0, '$.want.rebind_at', 2.0,"
            " '$.want.expires_at', 3.0) WHERE id LIKE '%/dhcp'"
        )
    lab.start()
    wait_for(lambda: not address(pod), "the interface is down")
    wait_for(lambda: "it has run out" in lab.podway("journal"))
    lab.call("DEL", conf(), pod)


def test_by_itself_under_another_plugin(lab: Lab, server: Dhcpd, pod: str, other_pod: str) -> None:
    """The reference bridge with our ``dhcp`` on CNI_PATH; GC gives back what isn't valid any more.

    That bridge removes the interface before it sends the DEL on, so that nobody can tell the server."""
    lab.path = f"{lab.bin}:/usr/lib/cni"
    (lab.bin / "bridge").unlink()
    server.start()
    under = {**conf(), "cniVersion": "1.0.0"}
    results = {name: lab.call("ADD", under, name) for name in (pod, other_pod)}
    own = {name: address(name)[0] for name in (pod, other_pod)}
    assert sorted(server.leases) == sorted(own.values())
    lab.call("CHECK", under, pod, before=results[pod])
    plugin = {**conf(), "type": "dhcp"}
    lab.call("STATUS", plugin)
    lab.call("GC", {**plugin, "cni.dev/valid-attachments": [{"containerID": pod, "ifname": "eth0"}]})
    wait_for(lambda: server.leases == [own[pod]], "the other's address is given back")
    for name in (pod, other_pod):
        lab.call("DEL", under, name, before=results[name])
    with pytest.raises(CniFailed, match="eth0 has no lease"):
        lab.call("CHECK", plugin, pod)


@pytest.mark.parametrize("point", POINTS)
def test_killed_with_a_lease(lab: Lab, server: Dhcpd, pod: str, point: str) -> None:
    """The next start, or the runtime's DEL, tells the server, once the journal has the lease."""
    server.start()
    lab.stop()
    for command in (
        f"ip link add pv0 type veth peer name eth0 netns {pod}",
        f"ip link set pv0 master {BRIDGE} up",
        f"ip -n {pod} link set eth0 up",
    ):
        subprocess.run(command.split(), check=True)
    body = {**conf(), "type": "dhcp"}
    lab.start(PODWAY_FAULT=point)
    with (
        pytest.raises(CniFailed, match="agent")
        if point.startswith("add.")
        else contextlib.suppress(CniFailed)
    ):
        lab.call("ADD", body, pod)
        lab.call("DEL", body, pod)
    assert lab.process is not None and lab.process.wait(30) == -signal.SIGKILL
    lab.process = None
    lab.start()
    lab.call("DEL", body, pod)
    wait_for(lambda: not server.leases, "the address is given back")
    lab.call("ADD", body, pod)


def test_errors_name_the_key_and_leave_nothing(lab: Lab, server: Dhcpd, pod: str) -> None:
    """Nothing is asked of a server before."""
    for ipam, said in (
        ({"request": [{"option": "swap-server"}]}, r"ipam.request\[0\].option: 'swap-server' is no DHCP"),
        ({"request": [{"option": "255"}]}, r"ipam.request\[0\].option"),
        ({"provide": [{"option": "53", "value": "x"}]}, r"ipam.provide\[0\].option: 53 is the client's own"),
        ({"provide": [{"option": "12", "value": "x" * 256}]}, r"ipam.provide\[0\].value: is longer"),
        ({"priority": "high"}, r"ipam.priority: must be a whole number"),
    ):
        with pytest.raises(CniFailed, match=said) as failed:
            lab.call("ADD", conf(**ipam), pod)
        assert failed.value.code == 7
    with pytest.raises(CniFailed, match="nobody to ask on the link of a ptp"):
        lab.call("ADD", {**conf(), "type": "ptp"}, pod)
    lab.stop()
    with pytest.raises(CniFailed, match="no agent runs that would extend a DHCP lease") as failed:
        lab.call("ADD", conf(), pod)
    assert failed.value.code == 11
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]
