"""Options and mistakes of which ours and the reference's make the same; where not, docs/cni.md says so."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, ip, links, wait_for

from podway.kernel import namespaces

pytestmark = pytest.mark.kernel

NEWER = ["agent", "in-process", "1.9.1"]  # for what Debian's 1.1.1 knows nothing of

WRITTEN, ENVIRONMENT, RUNTIME, ARGS = (f"c2:11:22:33:44:0{digit}" for digit in range(4))
LARGEST = (2**32 - 1) * 8  # bits of burst, the first that are too many
SOL_PACKET, ADD_MEMBERSHIP, PROMISC = 263, 1, 1  # linux/if_packet.h


def conf(kind: str, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": kind, **keys}


def bridge(lab: Lab, **more: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": [[{"subnet": "10.88.0.0/16"}]]}
    return conf("bridge", bridge="cni0", isGateway=True, ipam=ipam, **more)


def tuning(lab: Lab, **keys: Any) -> dict[str, Any]:
    return conf("tuning", dataDir=str(lab.directory / "tuning"), **keys)


def sysctl(pod: str, name: str) -> str:
    command = ["ip", "netns", "exec", pod, "sysctl", "-n", name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def is_refused(lab: Lab, code: int, *call: Any, **more: Any) -> bool:
    """Whether a call fails, with ours by ``code``."""
    try:
        lab.call(*call, **more)
    except CniFailed as failed:
        assert lab.theirs or failed.code == code, failed
        return True
    return False


def test_args_of_tuning_come_before_all_else(either: Lab, pod: str) -> None:
    """And runtimeConfig's MAC before CNI_ARGS' before the configuration's."""
    given = either.call("ADD", bridge(either), pod)
    sysctls = {"net.ipv4.conf.eth0.arp_filter": "1", "net.ipv4.conf.eth0.arp_ignore": "1"}
    written = tuning(either, sysctl=sysctls, mac=WRITTEN, mtu=1400, promisc=True, allmulti=False)
    args = {"sysctl": {"net.ipv4.conf.eth0.arp_ignore": "2"}, "mac": ARGS, "mtu": 1300, "txQLen": 77}
    args |= {"promisc": False, "allmulti": True}
    body = written | {"runtimeConfig": {"mac": RUNTIME}, "args": {"cni": args}}
    passed = either.call("ADD", body, pod, before=given, CNI_ARGS=f"MAC={ENVIRONMENT}")
    (now,) = ip("link", "show", "eth0", inside=pod)
    assert (now["address"], now["mtu"]) == (ARGS, 1300)
    assert either.theirs == "Debian" or now["txqlen"] == 77
    assert passed["interfaces"][2]["mac"] == ARGS
    assert "ALLMULTI" in now["flags"] and "PROMISC" not in now["flags"]
    assert [sysctl(pod, f"net.ipv4.conf.eth0.{one}") for one in ("arp_filter", "arp_ignore")] == ["1", "2"]
    either.call("CHECK", body, pod, before=passed, CNI_ARGS=f"MAC={ENVIRONMENT}")
    either.call("DEL", body, pod, before=passed, CNI_ARGS=f"MAC={ENVIRONMENT}")
    for more, arguments, mac in (
        ({"runtimeConfig": {"mac": RUNTIME}, "args": {"cni": {}}}, f"MAC={ENVIRONMENT}", RUNTIME),
        ({}, f"MAC={ENVIRONMENT}", ENVIRONMENT),
        ({"args": {"cni": {"mac": None}}}, "", WRITTEN),
    ):
        passed = either.call("ADD", written | more, pod, before=given, CNI_ARGS=arguments)
        assert passed["interfaces"][2]["mac"] == mac
        either.call("DEL", written | more, pod, before=passed, CNI_ARGS=arguments)


@pytest.mark.parametrize("either", NEWER, indirect=True)
def test_a_sysctl_that_is_there_twice_is_refused(either: Lab, pod: str) -> None:
    given = either.call("ADD", bridge(either), pod)
    twice = '{"net.ipv4.conf.all.arp_filter": "0", "net.ipv4.conf.all.arp_filter": "1"}'
    for command in ("ADD", "CHECK"):
        body = json.dumps(tuning(either, sysctl="HERE", prevResult=given)).replace('"HERE"', twice)
        with pytest.raises(CniFailed) as refused:
            either.execute(command, "tuning", body.encode(), pod)
        if not either.theirs:
            assert refused.value.code == 7
            assert refused.value.msg == "sysctl.net.ipv4.conf.all.arp_filter: is there twice"
    once = tuning(either, sysctl={"net.ipv4.conf.all.arp_filter": "0"})
    passed = either.call("ADD", once, pod, before=given)
    either.call("CHECK", once, pod, before=passed)


@contextlib.contextmanager
def listening(pod: str) -> Iterator[None]:
    """A program in the pod that hears all frames, as tcpdump does."""
    fd = namespaces.open_namespace(f"/run/netns/{pod}")
    try:
        with namespaces.entered(fd):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            index = socket.if_nametoindex("eth0")
    finally:
        os.close(fd)
    with made:
        made.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, struct.pack("iHH8s", index, PROMISC, 0, b""))
        yield


def test_check_of_tuning_finds_what_nobody_asked_for(either: Lab, pod: str) -> None:
    """Promiscuous mode; a program that listens is no change of settings, but for the current release."""
    given = either.call("ADD", bridge(either), pod)
    body = tuning(either, sysctl={"net.ipv4.conf.eth0.arp_filter": "1"})
    passed = either.call("ADD", body, pod, before=given)
    either.call("CHECK", body, pod, before=passed)
    subprocess.run(["ip", "-n", pod, "link", "set", "eth0", "promisc", "on"], check=True)
    with pytest.raises(CniFailed):
        either.call("CHECK", body, pod, before=passed)
    subprocess.run(["ip", "-n", pod, "link", "set", "eth0", "promisc", "off"], check=True)
    with listening(pod):
        assert is_refused(either, 101, "CHECK", body, pod, before=passed) == (either.theirs == "1.9.1")
    either.call("CHECK", body, pod, before=passed)
    subprocess.run(["ip", "-n", pod, "link", "set", "eth0", "name", "eth9"], check=True)
    with pytest.raises(CniFailed):
        either.call("CHECK", tuning(either), pod, before=passed)


@pytest.mark.parametrize(
    ("written", "limited"),
    [
        ({}, 4000000),
        ({"ingressRate": 8000000, "ingressBurst": 800000}, 8000000),
        ({"ingressRate": 0}, 0),
        ({"egressBurst": None}, 0),
    ],
)
def test_rates_that_are_written_down_are_all_that_counts(
    either: Lab, pod: str, written: dict[str, Any], limited: int
) -> None:
    """One key of them in the configuration, even 0 or null, and the runtime's are passed over."""
    given = either.call("ADD", bridge(either), pod)
    runtime = {"bandwidth": {"ingressRate": 4000000, "ingressBurst": 400000}}
    body = conf("bandwidth", runtimeConfig=runtime, **written)
    passed = either.call("ADD", body, pod, before=given)
    command = ["tc", "-j", "qdisc", "show", "dev", given["interfaces"][1]["name"]]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    rates = [one["options"]["rate"] * 8 for one in found if one["kind"] == "tbf"]
    assert rates == ([limited] if limited else [])
    either.call("CHECK", body, pod, before=passed)
    either.call("DEL", body, pod, before=passed)


@pytest.mark.parametrize(("burst", "refused"), [(LARGEST, True), (LARGEST - 1, False)])
def test_the_largest_burst(either: Lab, pod: str, burst: int, refused: bool) -> None:
    given = either.call("ADD", bridge(either), pod)
    body = conf("bandwidth", ingressRate=10**9, ingressBurst=burst)
    assert is_refused(either, 7, "ADD", body, pod, before=given) == refused


def test_name_servers_of_the_runtime_are_no_matter_of_the_reference_names(either: Lab, pod: str) -> None:
    """The capability ``dns``; a runtime writes resolv.conf itself."""
    runtime = {"dns": {"servers": ["192.0.2.53"], "searches": ["runtime"], "options": ["ndots:9"]}}
    body = bridge(either, dns={"nameservers": ["192.0.2.1"]}, runtimeConfig=runtime)
    assert either.call("ADD", body, pod)["dns"] == {"nameservers": ["192.0.2.1"]}


@pytest.mark.parametrize("either", NEWER, indirect=True)
@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ({"backend": "iptables", "conditionsV4": ["ip saddr 192.0.2.1"]}, True),
        ({"backend": "nftables", "conditionsV4": ["-s", "192.0.2.1"]}, True),
        ({"backend": "nftables", "conditionsV6": ["!", "-s", "fd00::1"]}, True),
        ({"backend": "nftables", "externalSetMarkChain": "X"}, True),
        ({"conditionsV4": ["-s", "192.0.2.1"], "conditionsV6": ["ip6 saddr fd00::1"]}, True),
        ({"backend": "nftables", "conditionsV4": ["ip saddr 192.0.2.1"]}, False),
        ({"backend": "iptables", "conditionsV4": ["-s", "192.0.2.1"]}, False),
        ({"backend": "nftables", "conditionsV4": []}, False),
    ],
)
def test_conditions_in_the_words_of_the_backend(
    either: Lab, pod: str, keys: dict[str, Any], refused: bool
) -> None:
    given = either.call("ADD", bridge(either), pod)
    ports = {"portMappings": [{"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]}
    body = conf("portmap", runtimeConfig=ports, **keys)
    assert is_refused(either, 7, "ADD", body, pod, before=given) == refused


def test_without_a_backend_either_words_will_do(either: Lab, pod: str) -> None:
    """The reference takes iptables then, where it is there, and refuses nft's words."""
    given = either.call("ADD", bridge(either), pod)
    ports = {"portMappings": [{"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]}
    body = conf("portmap", runtimeConfig=ports, conditionsV4=["ip saddr 192.0.2.1"])
    assert is_refused(either, 7, "ADD", body, pod, before=given) == bool(either.theirs)


def test_one_port_to_two_of_the_pods(either: Lab, pod: str) -> None:
    """The reference lets the first win silently."""
    given = either.call("ADD", bridge(either), pod)
    ports = [{"hostPort": 8053, "containerPort": port, "protocol": "udp"} for port in (53, 54)]
    body = conf("portmap", runtimeConfig={"portMappings": ports})
    assert is_refused(either, 7, "ADD", body, pod, before=given) == (not either.theirs)


def test_what_kubernetes_tells_in_cni_args(either: Lab, pod: str) -> None:
    """Runtimes send IgnoreUnknown with it; ours know it without, and nothing else."""
    known, unknown = "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", "K8S_POD_COLOUR=green"
    assert is_refused(either, 4, "ADD", bridge(either), pod, CNI_ARGS=known) == bool(either.theirs)
    either.call("DEL", bridge(either), pod, CNI_ARGS=f"IgnoreUnknown=1;{known}")
    with pytest.raises(CniFailed):
        either.call("ADD", bridge(either), pod, CNI_ARGS=unknown)
    result = either.call("ADD", bridge(either), pod, CNI_ARGS=f"{unknown};IgnoreUnknown=true;{known}")
    assert result["ips"]


@pytest.mark.parametrize("either", NEWER, indirect=True)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_cni_path_has_to_be_there(either: Lab, pod: str, command: str) -> None:
    for kind in ("bridge", "tuning", "loopback"):
        body = bridge(either) if kind == "bridge" else conf(kind)
        with pytest.raises(CniFailed, match="CNI_PATH") as refused:
            either.call(command, body | {"cniVersion": "1.1.0"}, pod, CNI_PATH="")
        assert refused.value.code == (50 if command == "STATUS" and not either.theirs else 4)
    assert not links("veth")


OWN = "/proc/self/ns/net"


@pytest.mark.parametrize("either", NEWER, indirect=True)
@pytest.mark.parametrize("word", ["", "0", "1", "true", "True"])
def test_the_callers_own_namespace(either: Lab, word: str) -> None:
    """CNI_NETNS_OVERRIDE: on purpose, and never by mistake."""
    subprocess.run(["ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1"], check=True)
    own = {"namespace": OWN, "CNI_NETNS_OVERRIDE": word}
    before = {"cniVersion": "1.0.0", "interfaces": [{"name": "up0", "sandbox": OWN}], "ips": []}
    path = "net.ipv4.conf.up0.arp_filter"
    body = tuning(either, sysctl={path: "1"}, mtu=1300)
    if word in ("", "0"):
        if not either.theirs:
            assert is_refused(either, 8, "ADD", body, "c1", before=before, ifname="up0", **own)
            return
        # the reference has done it all by then, and prints its result before the error
        with pytest.raises(json.JSONDecodeError, match="Extra data"):
            either.call("ADD", body, "c1", before=before, ifname="up0", **own)
        return
    either.call("ADD", body, "c1", before=before, ifname="up0", **own)
    assert subprocess.run(["sysctl", "-n", path], capture_output=True, text=True).stdout == "1\n"
    assert ip("link", "show", "up0")[0]["mtu"] == 1300
    either.call("CHECK", body, "c1", before=before, ifname="up0", **own)
    either.call("DEL", body, "c1", before=before, ifname="up0", **own)
    assert ip("link", "show", "up0")[0]["mtu"] == 1500
    either.call("ADD", conf("loopback"), "c1", ifname="lo", **own)
    assert "UP" in ip("link", "show", "lo")[0]["flags"]


@pytest.mark.parametrize("either", NEWER, indirect=True)
def test_a_link_in_the_callers_own_namespace(either: Lab) -> None:
    """A bridge's stays and goes; one that stands in the pod alone would be taken for one of the node's."""
    own = {"namespace": OWN, "CNI_NETNS_OVERRIDE": "1", "ifname": "inner0"}
    result = either.call("ADD", bridge(either), "c1", **own)
    assert ip("addr", "show", "inner0")[0]["addr_info"][0]["local"] == "10.88.0.2"
    either.call("CHECK", bridge(either), "c1", before=result, **own)
    either.call("DEL", bridge(either), "c1", before=result, **own)
    wait_for(lambda: "inner0" not in links("veth"))
    for words in ("add up0 type veth peer name up1", "set up1 up", "set up0 up"):
        subprocess.run(["ip", "link", *words.split()], check=True)
    body = conf("macvlan", master="up0")
    assert is_refused(either, 8, "ADD", body, "c1", **own) == (not either.theirs)
