"""Living beside real flanneld: leases that come, go, clash and can't be right; what it deletes; outages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from podway.model import flannel as model
from podway.model.flannel import Lease
from podway.plan.transport.vxlan import vtep_mac

if TYPE_CHECKING:
    from flannel_lab import FlannelLab, FlannelNode, PodwayNode

pytestmark = pytest.mark.kernel


def _pair(lab: FlannelLab) -> tuple[FlannelNode, PodwayNode, Any, Any]:
    """A node of each, with a pod on each that reach each other."""
    from flannel_lab import until

    lab.configure(Backend={"Type": "vxlan"})
    lab.network()
    theirs, ours = lab.flannel(1), lab.podway(2)
    theirs.start()
    ours.start()
    pod_f, (address_f,) = theirs.pod("x")
    pod_p, (address_p,) = ours.pod("x")
    until(lambda: pod_p.reaches(address_f), f"{ours.status} {theirs.log}")
    until(lambda: pod_f.reaches(address_p), f"{ours.status} {theirs.log}")
    return theirs, ours, pod_f, pod_p


def _fdb(node: FlannelNode) -> str:
    return node.run("bridge fdb show dev flannel.1")


def _entry(node: PodwayNode, start: str) -> str:
    return "".join(line for line in node.run("bridge fdb show").splitlines() if line.startswith(start))


def test_entries_that_flanneld_deletes_are_mended(flannel_lab: FlannelLab) -> None:
    """A second lease of the node's goes: every flanneld deletes the forwarding entry that both use. Podway
    writes its own lease again, and every flanneld makes the entry anew."""
    from flannel_lab import until

    theirs, ours, pod_f, _ = _pair(flannel_lab)
    mac = vtep_mac("pods", "p2")
    (address,) = ours.pods["x"][1]
    assert mac in _fdb(theirs)
    ours.end()
    old = Lease(subnets={4: "10.244.250.0/24"}, addresses={4: "192.0.2.2"}, macs={4: mac})
    with flannel_lab.leases() as store:
        assert store.create(old.key, model.encode_lease(old), 3600)
    until(lambda: "10.244.250.0" in theirs.run("ip route"), theirs.log)
    with flannel_lab.leases() as store:
        store.delete(old.key, store.list().leases[old.key].version)
    until(lambda: mac not in _fdb(theirs), "flanneld keeps the entry: is there a defect to mend at all?")
    assert not pod_f.reaches(address)
    # seen by an agent that starts, and by one that runs
    ours.start()
    with flannel_lab.leases() as store:
        assert store.create(old.key, model.encode_lease(old), 3600)
    until(lambda: "10.244.250.0" not in theirs.run("ip route"), "the second lease was not dropped")
    until(lambda: mac in _fdb(theirs), f"not mended: {_fdb(theirs)}")
    until(lambda: pod_f.reaches(address), theirs.log)


def test_an_outage_of_flannels_etcd_costs_no_packet(flannel_lab: FlannelLab) -> None:
    """Gone for a while, and the agent restarted meanwhile: all peers stay, the trouble is named, and what
    came after it is taken in."""
    from flannel_lab import until

    theirs, ours, _, pod_p = _pair(flannel_lab)
    (address,) = theirs.pods["x"][1]
    routes = ours.run("ip route")
    flannel_lab.etcd.end()
    until(lambda: any("Flannel's etcd" in one for one in ours.status["problems"]), str(ours.status))
    ours.end()
    ours.start()
    assert ours.run("ip route") == routes
    assert pod_p.reaches(address)
    ours.pod("y")  # no round trip to any etcd
    flannel_lab.start_etcd()
    second = flannel_lab.flannel(4)
    second.start()
    far, (there,) = second.pod("x")
    until(lambda: pod_p.reaches(there), f"{ours.status} {ours.log}")
    until(lambda: far.reaches(ours.pods["x"][1][0]), second.log)
    until(lambda: not ours.status["problems"], str(ours.status))


def test_leases_that_can_not_be_right_are_named_and_isolated(flannel_lab: FlannelLab) -> None:
    """Nonsense, a prefix outside of the pool, a default route, one of another length, no VTEP: none is
    planned, each is named, and Flannel's good node stays reached. A lease that goes takes its routes."""
    from flannel_lab import until

    theirs, ours, _, pod_p = _pair(flannel_lab)
    good = {"PublicIP": "192.0.2.66", "BackendType": "vxlan"}
    vtep = good | {"BackendData": {"VNI": 1, "VtepMAC": "0e:00:00:00:00:66"}}
    wrong = {
        "10.244.9.0-24": b"{",
        "10.245.9.0-24": model.msgspec.json.encode(vtep),
        "0.0.0.0-0": model.msgspec.json.encode(vtep),
        "10.244.64.0-20": model.msgspec.json.encode(vtep),
        "10.244.10.0-24": model.msgspec.json.encode(good),
    }
    with flannel_lab.leases() as store:
        for key, value in wrong.items():
            assert store.create(key, value, 3600)
        assert store.create("10.244.11.0-24", model.msgspec.json.encode(vtep), 3600)
        # the same node under the address that it got later: its old lease lives on for a day
        moved = vtep | {"PublicIP": "192.0.2.67"}
        assert store.create("10.244.12.0-24", model.msgspec.json.encode(moved), 3600)
    until(lambda: "10.244.12.0/24" in ours.run("ip route"), str(ours.status))
    entry = "0e:00:00:00:00:66 dev pwv"
    until(lambda: "dst 192.0.2.67" in _entry(ours, entry) and "192.0.2.66" not in _entry(ours, entry), entry)
    assert "10.244.11.0/24" in ours.run("ip route")
    for text in ("10.244.9.0-24", "10.245.9.0/24", "0.0.0.0/0", "10.244.64.0/20", "10.244.10.0/24"):
        until(lambda text=text: any(text in one for one in ours.status["problems"]), f"{text}: {ours.status}")
    routes = ours.run("ip route")
    assert not any(text in routes for text in ("10.245.9", "10.244.64", "10.244.10.0", "default via 0"))
    assert pod_p.reaches(theirs.pods["x"][1][0])
    with flannel_lab.leases() as store:
        for key in (*wrong, "10.244.11.0-24", "10.244.12.0-24"):
            store.delete(key, store.list().leases[key].version)
    until(lambda: "10.244.11.0/24" not in ours.run("ip route"), "the route stayed")
    until(lambda: not ours.status["problems"], str(ours.status))


def test_networks_that_disagree_take_no_lease(flannel_lab: FlannelLab) -> None:
    """Another VNI than Flannel's: said with both numbers, no lease taken; mended by Flannel's configuration,
    without a restart."""
    from flannel_lab import until

    flannel_lab.configure(Backend={"Type": "vxlan", "VNI": 7})
    flannel_lab.network()
    ours = flannel_lab.podway(2)
    ours.start()
    until(lambda: any("Flannel's is 7" in one for one in ours.status["problems"]), str(ours.status))
    with flannel_lab.leases() as store:
        assert store.list().leases == {}
    flannel_lab.configure(Backend={"Type": "vxlan"})
    until(lambda: ours.status["blocks"], str(ours.status))
    with flannel_lab.leases() as store:
        (found,) = store.list().leases.values()
        assert 80000 < store.remaining(found.lease) <= model.LEASE_SECONDS
    ours.pod("x")
