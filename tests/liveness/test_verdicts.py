"""What is wrong between two nodes is told by name, and taken back when it heals."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Callable, Iterator

import pytest
from liveness_pair import Pair

pytestmark = pytest.mark.kernel
BLOCK_TUNNEL = "udp dport 8472 drop"
#: the checksum of what a VXLAN packet carries: after UDP, VXLAN, Ethernet and IPv4 headers, 6 bytes into
#: UDP's; one that isn't there (0) isn't made wrong, as a broken offload wouldn't
CORRUPT = "udp dport 8472 @th,448,16 != 0 @th,448,16 set 0xdead"


@pytest.fixture(scope="module")
def one_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes for all tests of this module."""
    made = Pair(tmp_path_factory.mktemp("pair"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pair(one_pair: Pair) -> Pair:
    """The two nodes with agents that run, and that find each other well."""
    for node in one_pair.nodes:
        if node not in one_pair.agents:
            one_pair.start(node)
    for node in one_pair.nodes:
        one_pair.until_title(node, "ok")
    return one_pair


def _findings(peer: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {path["target"]: path["finding"] for path in peer["paths"]}


def test_the_tunnel_is_blocked(pair: Pair) -> None:
    """UDP 8472 dropped on the way is told from a dead peer: in get peers, status, doctor and metrics."""
    assert pair.podway("a", "status", "--wait").returncode == 0
    with pair.damaged(BLOCK_TUNNEL):
        found = pair.until_title("a", "UDP 8472 blocked")
        assert _findings(found) == {"192.0.2.2": "ok", "10.244.2.0": "silent", "fd00:10:244:2::": "silent"}
        assert "UDP 8472 blocked" in pair.podway("a", "get", "peers").stdout
        wide = pair.podway("a", "get", "peers", "-o", "wide").stdout
        assert re.search(r"UDP 8472 +10\.244\.2\.0 +silent", wide), wide
        shown = pair.podway("a", "status")
        assert "peer b: UDP 8472 blocked" in shown.stdout
        checked = pair.podway("a", "doctor").stdout
        assert re.search(r"warning +peer b +UDP 8472 blocked.*fix: let UDP 8472 pass", checked), checked
        assert 'podway_peers{verdict="blocked"} 1.0' in pair.page("a", "/metrics")
        # one peer's trouble is nobody's unreadiness, and no problem of this agent's
        assert shown.returncode == 0 and pair.page("a", "/readyz") == "ready\n"
        assert pair.page("a", "/healthz") == "ok\n" and "podway_ready 1.0" in pair.page("a", "/metrics")
    pair.until_title("a", "ok")


def test_wrong_checksums_in_the_tunnel(pair: Pair) -> None:
    """Datagrams whose checksums are made wrong on the way, as a broken offload does."""
    for node in pair.nodes:
        pair.real_frames(node)
    with pair.damaged(CORRUPT):
        found = pair.until_title("a", "checksum corruption")
        assert _findings(found)["192.0.2.2"] == "ok" and _findings(found)["10.244.2.0"] == "corrupt"
        assert "ethtool" in found["fix"]
    pair.until_title("a", "ok")


def test_wrong_checksums_around_the_tunnel(make_pair: Callable[..., Pair]) -> None:
    """Over IPv6 the tunnel itself has checksums: whoever makes them wrong doesn't look like a firewall."""
    pair = make_pair(vxlan={"underlay": "ipv6"})
    for node in pair.nodes:
        pair.real_frames(node)
        pair.until_title(node, "ok")
    with pair.damaged("udp dport 8472 udp checksum set 0xdead"):
        for node in pair.nodes:
            pair.until_title(node, "checksum corruption")
    pair.until_title("a", "ok")


def test_only_the_agent_is_gone(pair: Pair) -> None:
    """The node's kernel still answers: its pods keep their network."""
    pair.kill("b")
    found = pair.until_title("a", "agent down")
    assert set(_findings(found).values()) == {"refused"}
    pair.start("b")
    pair.until_title("a", "ok")


def test_the_peer_is_dead(pair: Pair) -> None:
    """Node and agent gone at once."""
    pair.kill("b")
    pair.run("b", "ip link set eth0 down")
    try:
        found = pair.until_title("a", "peer dead")
        assert set(_findings(found).values()) == {"silent"}
        assert pair.page("a", "/readyz") == "ready\n"
    finally:
        pair.run("b", "ip link set eth0 up")
        pair.run("b", "ip address replace 2001:db8::2/64 dev eth0 nodad")
    pair.start("b")
    pair.until_title("a", "ok")


def test_an_mtu_hole(pair: Pair) -> None:
    """Found to the byte; the route says so; kept over SIGKILL and a restart; taken back when it has gone."""
    with pair.damaged("meta length > 1400 drop"):
        found = pair.until("a", lambda peer: "over 1350 bytes vanish" in peer["reason"])
        assert found["title"] == "MTU hole"
        pair.until_output("a", "ip route show 10.244.2.0/24", "mtu 1350")
        assert "maxseg size set 1310" in pair.run("a", "nft list chain inet podway narrow4-1350")
        assert pair.podway("a", "plan").returncode == 0
        pair.kill("a")
        pair.start("a")
        again = pair.until("a", lambda peer: peer["verdict"] not in ("", "unknown"))
        assert "over 1350 bytes vanish" in again["reason"]
        assert "mtu 1350" in pair.run("a", "ip route show 10.244.2.0/24")
        pair.kill("a", signal.SIGTERM)
    pair.start("a")
    pair.until_title("a", "ok")
    pair.until_output("a", "ip route show 10.244.2.0/24", "mtu", absent=True)
    pair.until_output("a", "nft list table inet podway", "narrow4", absent=True)
    assert pair.podway("a", "plan").returncode == 0


def test_a_router_that_cuts_into_fragments(make_pair: Callable[..., Pair]) -> None:
    """A smaller link behind a router that tells nobody: the tunnel's packets, which may be cut, still arrive.

    The size is found by the node addresses, and pods send no packets any more that have to be cut."""
    pair = make_pair(router=True)
    pair.until_title("a", "ok")
    silence = "table ip t { chain c { type filter hook output priority 0; icmp type 3 drop; }; }"
    pair.run(pair.middle, "nft -f -", silence)
    pair.run(pair.middle, "ip link set to-b mtu 1400")
    found = pair.until("a", lambda peer: "198.51.100.2: packets over 1400 bytes" in peer["reason"])
    assert found["verdict"] == "fragmented" and found["title"] == "MTU hole (fragments)"
    assert _findings(found)["10.244.2.0"] == "ok"
    pair.until_output("a", "ip route show 10.244.2.0/24", "mtu 1350")
    pair.run(pair.middle, "ip link set to-b mtu 1500")
    pair.until_title("a", "ok")
    pair.until_output("a", "ip route show 10.244.2.0/24", "mtu", absent=True)


@pytest.mark.parametrize(
    ("spec", "targets"),
    [
        ({"attach": "routed", "transport": "host-gw"}, {"10.244.2.0", "fd00:10:244::200"}),
        ({"attach": "routed"}, {"10.244.2.0", "fd00:10:244::200"}),
        ({"vxlan": {"directWithinSubnet": True}}, {"10.244.2.1", "fd00:10:244:2::1"}),
    ],
)
def test_every_kind_of_network(make_pair: Callable[..., Pair], spec: dict, targets: set[str]) -> None:
    """Routed pods, and packets that go without their tunnel: probed by the way that is in force."""
    pair = make_pair(**spec)
    pair.until("a", lambda peer: targets <= {t for t, found in _findings(peer).items() if found == "ok"})
    assert pair.podway("a", "status", "--wait").returncode == 0


def test_an_mtu_hole_without_a_tunnel(make_pair: Callable[..., Pair]) -> None:
    """Without a tunnel, by host-gw, a hole is found just as well."""
    pair = make_pair(transport="host-gw")
    pair.until_title("a", "ok")
    with pair.damaged("meta length > 1450 drop"):
        found = pair.until("a", lambda peer: "10.244.2.1: packets over 1450 bytes" in peer["reason"])
        assert found["verdict"] == "mtu-hole"
        pair.until_output("a", "ip route show 10.244.2.0/24", "mtu 1450")


@pytest.mark.soak
def test_faults_in_any_order(pair: Pair) -> None:
    """One after the other, restarts between, for a long time: the verdict is always the present one's."""
    faults = {
        BLOCK_TUNNEL: "UDP 8472 blocked",
        CORRUPT: "checksum corruption",
        "meta length > 1400 drop": "MTU hole",
        "drop": "peer dead",
        "counter": "ok",
    }
    for node in pair.nodes:
        pair.real_frames(node)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chosen = random.Random(seed)
    for _ in range(40):
        rule = chosen.choice(sorted(faults))
        with pair.damaged(rule):
            pair.until_title("a", faults[rule])
            if chosen.random() < 0.3:
                pair.kill("a")
                pair.start("a")
                pair.until_title("a", faults[rule])
        if chosen.random() < 0.3:
            pair.until_title("a", "ok")
