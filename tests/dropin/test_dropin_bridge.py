"""``bridge`` with host-local, end to end: the real executable, with an agent and without."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, ip, links, wait_for

pytestmark = pytest.mark.kernel


def conf(lab: Lab, **more: Any) -> dict[str, Any]:
    """A dual stack network whose bridge is the gateway."""
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    ipam = {
        "type": "host-local",
        "dataDir": str(lab.data),
        "ranges": ranges,
        "routes": [{"dst": "10.99.0.0/16"}, {"dst": "fd99::/32", "gw": "fd00:22::9"}],
    }
    whole = {
        "cniVersion": "1.1.0",
        "name": "n1",
        "type": "bridge",
        "bridge": "cni7",
        "isDefaultGateway": True,
    }
    return {**whole, "dns": {"nameservers": ["1.1.1.1"]}, "ipam": ipam, **more}


def reserved(lab: Lab, network: str = "n1") -> list[str]:
    """Addresses that are given out."""
    directory = lab.data / network
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return sorted(name for name in names if name[0].isdigit() or ":" in name)


def test_a_pod_comes_and_goes(node: Lab, pod: str) -> None:
    """The result is the reference plugin's; so is what stands afterwards; DEL takes all but the bridge."""
    result = node.call("ADD", conf(node), pod)
    bridge, veth, inside = result["interfaces"]
    assert bridge["name"] == "cni7" and inside["name"] == "eth0"
    assert inside["sandbox"] == f"/run/netns/{pod}" and "sandbox" not in veth
    assert result["ips"] == [
        {"interface": 2, "address": "10.22.0.2/24", "gateway": "10.22.0.1"},
        {"interface": 2, "address": "fd00:22::2/64", "gateway": "fd00:22::1"},
    ]
    assert result["routes"] == [
        {"dst": "10.99.0.0/16"},
        {"dst": "fd99::/32", "gw": "fd00:22::9"},
        {"dst": "0.0.0.0/0", "gw": "10.22.0.1"},
        {"dst": "::/0", "gw": "fd00:22::1"},
    ]
    assert result["dns"] == {"nameservers": ["1.1.1.1"]}
    for one, where in ((bridge, ""), (veth, ""), (inside, pod)):
        (link,) = ip("link", "show", one["name"], inside=where)
        assert link["address"] == one["mac"] and "UP" in link["flags"]
    assert ip("link", "show", veth["name"])[0]["master"] == "cni7"
    assert not any(one.get("tentative") for one in ip("-6", "addr", "show", "cni7")[0]["addr_info"])
    routes = {(r["dst"], r.get("gateway")) for r in ip("route", inside=pod)}
    assert routes >= {("default", "10.22.0.1"), ("10.99.0.0/16", "10.22.0.1")}
    assert (node.data / "n1" / "10.22.0.2").read_bytes() == f"{pod}\r\neth0".encode()
    node.call("CHECK", conf(node), pod, before=result)
    node.call("DEL", conf(node), pod, before=result)
    wait_for(lambda: not links("veth") and not reserved(node), "everything is gone")
    assert links("bridge") == ["cni7"]
    node.call("DEL", conf(node), pod, namespace="")


def test_what_only_the_pod_lost_is_found(node: Lab, pod: str) -> None:
    """CHECK names what is missing."""
    import subprocess

    result = node.call("ADD", conf(node), pod)
    subprocess.run(["ip", "-n", pod, "addr", "del", "10.22.0.2/24", "dev", "eth0"], check=True)
    with pytest.raises(CniFailed, match=r"address eth0 10\.22\.0\.2/24 is missing in the pod"):
        node.call("CHECK", conf(node), pod, before=result)


def test_a_failed_add_leaves_nothing(node: Lab, pod: str) -> None:
    """The interface exists already: no veth, no address stays."""
    node.call("ADD", conf(node), pod)
    before = (links("veth"), reserved(node))
    with pytest.raises(CniFailed):
        node.call("ADD", conf(node, name="n2"), pod)
    assert (links("veth"), reserved(node)) == before and not reserved(node, "n2")


def test_del_without_anything_frees_everything(node: Lab, pod: str, other_pod: str) -> None:
    """Without namespace and prevResult; the other pod keeps what it has."""
    node.call("ADD", conf(node), pod)
    node.call("ADD", conf(node), other_pod)
    node.call("DEL", conf(node), pod, namespace="")
    wait_for(lambda: len(links("veth")) == 1 and reserved(node) == ["10.22.0.3", "fd00:22::3"])


def test_gc_keeps_what_is_valid(node: Lab, pod: str, other_pod: str) -> None:
    """And frees the rest, reservations of nobody's included."""
    node.call("ADD", conf(node), pod)
    node.call("ADD", conf(node), other_pod)
    (node.data / "n1" / "10.22.0.77").write_text("gone\r\neth0")
    valid = [{"containerID": other_pod, "ifname": "eth0"}]
    node.call("GC", conf(node, **{"cni.dev/valid-attachments": valid}))
    assert len(links("veth")) == 1 and reserved(node) == ["10.22.0.3", "fd00:22::3"]
    node.call("STATUS", conf(node))


def test_damage_is_repaired(lab: Lab, pod: str) -> None:
    """A veth that somebody took off the bridge is put back."""
    import subprocess

    lab.start()
    veth = lab.call("ADD", conf(lab), pod)["interfaces"][1]["name"]
    subprocess.run(["ip", "link", "set", veth, "nomaster"], check=True)
    wait_for(lambda: ip("link", "show", veth)[0].get("master") == "cni7", "it is a port again")
    subprocess.run(["ip", "addr", "flush", "dev", "cni7"], check=True)
    wait_for(lambda: len(ip("addr", "show", "cni7", "to", "10.22.0.1")) == 1, "the gateway is back")


def test_check_waits_for_a_repair(lab: Lab, pod: str) -> None:
    """An agent that finds events and a CHECK at once serves the CHECK first, which must not complain of what
    is about to come back."""
    import subprocess

    lab.start()
    result = lab.call("ADD", conf(lab), pod)
    assert lab.process is not None
    with ThreadPoolExecutor(1) as pool:
        for damage in (f"link set {result['interfaces'][1]['name']} nomaster", "addr flush dev cni7"):
            lab.process.send_signal(signal.SIGSTOP)
            try:
                subprocess.run(["ip", *damage.split()], check=True)
                check = pool.submit(lab.call, "CHECK", conf(lab), pod, before=result)
                time.sleep(0.2)  # by then it waits for the agent
            finally:
                lab.process.send_signal(signal.SIGCONT)
            check.result()


def test_an_agent_started_anew_knows_its_pods(lab: Lab, pod: str) -> None:
    """And removes nothing of theirs."""
    lab.start()
    lab.call("ADD", conf(lab), pod)
    lab.stop()
    lab.start()
    assert len(links("veth")) == 1 and links("bridge") == ["cni7"]
    lab.call("DEL", conf(lab), pod)
    wait_for(lambda: not links("veth") and not reserved(lab))


def elements(name: str) -> list[str]:
    """Elements of one of Podway's sets, as nft prints them."""
    import subprocess

    done = subprocess.run(["nft", "list", "set", "inet", "podway", name], capture_output=True, text=True)
    _, _, after = done.stdout.partition("elements = {")
    return [one.strip() for one in after.partition("}")[0].split(",") if one.strip()]


def test_masquerade_goes_with_an_empty_namespace(node: Lab, pod: str, other_pod: str) -> None:
    """What leaves the pods' subnet is masqueraded; the subnet stays until its last pod is gone."""
    masqueraded = conf(node, ipMasq=True)
    node.call("ADD", masqueraded, pod)
    result = node.call("ADD", masqueraded, other_pod)
    assert sorted(elements("leaving4")) == ["10.22.0.2", "10.22.0.3"]
    assert elements("within4") == ["10.22.0.0/24 . 10.22.0.0/24"]
    assert elements("within6") == ["fd00:22::/64 . fd00:22::/64"]
    node.call("DEL", masqueraded, pod, namespace="")
    node.call("CHECK", masqueraded, other_pod, before=result)
    assert elements("leaving4") == ["10.22.0.3"] and elements("within4")
    node.call("DEL", masqueraded, other_pod, namespace="")
    assert not elements("leaving4") + elements("leaving6") + elements("within4") + elements("within6")


def test_what_leaves_the_subnet_is_masqueraded(lab: Lab, pod: str, other_pod: str) -> None:
    """And nothing else: a neighbour sees the pod's own address."""
    import subprocess

    lab.start()
    masqueraded = conf(lab, ipMasq=True)
    first = lab.call("ADD", masqueraded, pod)["ips"][0]["address"].partition("/")[0]
    far = {"type": "host-local", "dataDir": str(lab.data), "subnet": "10.33.0.0/24"}
    lab.call("ADD", conf(lab, name="n2", bridge="cni8", ipam=far), other_pod)
    for target, seen in (("10.33.0.2", "10.33.0.1"), ("10.22.0.1", first)):
        where = ["ip", "netns", "exec", other_pod] if target == "10.33.0.2" else []
        serve = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20);"
            f"s.bind(('{target}', 9000)); print('ready', flush=True); print(s.recvfrom(9)[1][0])"
        )
        send = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
            f"s.sendto(b'x', ('{target}', 9000))"
        )
        with subprocess.Popen([*where, "python3", "-c", serve], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            subprocess.run(["ip", "netns", "exec", pod, "python3", "-c", send], check=True)
            assert server.stdout.readline().strip() == seen


def test_options_of_the_port_and_the_bridge(node: Lab, pod: str, other_pod: str) -> None:
    """hairpinMode, portIsolation, mtu, a MAC asked for, macspoofchk, promiscMode, each seen in the kernel."""
    asked = {"runtimeConfig": {"mac": "02-11-22-33-44-55"}, "macspoofchk": True, "mtu": 1400}
    result = node.call("ADD", conf(node, hairpinMode=True, portIsolation=True, **asked), pod)
    _, veth, inside = result["interfaces"]
    assert inside["mac"] == "02:11:22:33:44:55"
    (port,) = ip("-d", "link", "show", veth["name"])
    assert port["linkinfo"]["info_slave_data"]["hairpin"] and port["linkinfo"]["info_slave_data"]["isolated"]
    assert [one["mtu"] for one in (port, *ip("link", "show", "cni7"))] == [1400, 1400]
    node.call("CHECK", conf(node, hairpinMode=True, portIsolation=True, **asked), pod, before=result)
    node.call("ADD", conf(node, promiscMode=True, mtu=1500), other_pod)
    (bridge,) = ip("-d", "link", "show", "cni7")
    assert bridge["promiscuity"] >= 1 and bridge["mtu"] == 1400


def test_macspoofchk_drops_another_mac(lab: Lab, pod: str) -> None:
    """A pod that takes another MAC isn't heard any more; without the option it is."""
    import subprocess

    lab.start()
    reach = ["ip", "netns", "exec", pod, "ping", "-c1", "-W1", "10.22.0.1"]
    forge = ["ip", "-n", pod, "link", "set", "eth0", "address", "02:aa:bb:cc:dd:ee"]
    for guarded in (False, True):
        lab.call("ADD", conf(lab, macspoofchk=guarded), pod)
        assert subprocess.run(reach, capture_output=True).returncode == 0
        subprocess.run(forge, check=True)
        assert subprocess.run(reach, capture_output=True).returncode == guarded
        lab.call("DEL", conf(lab, macspoofchk=guarded), pod)


def test_duplicates_are_looked_for(node: Lab, pod: str) -> None:
    """With enabledad ADD answers once the IPv6 address may be used."""
    node.call("ADD", conf(node, enabledad=True), pod)
    found = ip("-6", "addr", "show", "eth0", inside=pod)[0]["addr_info"]
    assert not any(one.get("tentative") for one in found if one["local"] == "fd00:22::2")
    assert not any(one.get("nodad") for one in found)


def test_without_addresses_and_down(node: Lab, pod: str) -> None:
    """L2 only, and an interface that stays down."""
    flat = {key: value for key, value in conf(node).items() if key not in ("ipam", "isDefaultGateway", "dns")}
    result = node.call("ADD", flat, pod)
    assert [one["name"] for one in result["interfaces"]][::2] == ["cni7", "eth0"] and not result.get("ips")
    node.call("CHECK", flat, pod, before=result)
    node.call("ADD", {**flat, "disableContainerInterface": True}, pod, ifname="e1")
    assert "UP" not in ip("link", "show", "e1", inside=pod)[0]["flags"]
    with pytest.raises(CniFailed, match="disableContainerInterface"):
        node.call("ADD", conf(node, disableContainerInterface=True), pod, ifname="e2")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"hairpinMode": True, "promiscMode": True}, "promiscMode: and hairpinMode exclude each other"),
        ({"vlan": 4095}, "vlan: must be from 0 to 4094"),
        ({"vlanTrunk": [{"id": 5}, {"minID": 7}]}, "vlanTrunk[1]: minID and maxID go together"),
        ({"vlanTrunk": [{"minID": 7, "maxID": 6}]}, "vlanTrunk[0].maxID: 6 is less than minID"),
        ({"vlanTrunk": [{"id": 0}]}, "vlanTrunk[0]: 0 is no VLAN"),
        ({"bridge": "../x"}, "bridge: '../x'"),
        ({"bridge": "lo"}, "bridge: lo is a hardware link, not a bridge"),
        ({"ipMasqBackend": "ipfw"}, "ipMasqBackend: 'ipfw' is neither"),
        ({"ipam": {"type": "host-local"}}, "ipam.ranges: is missing"),
        ({"ipam": {"type": "nonesuch"}}, "ipam.type: there is no plugin nonesuch"),
        ({"ipam": {"type": "../../bin/sh"}}, "ipam.type: '../../bin/sh' is no plugin's name"),
    ],
)
def test_bad_configurations(lab: Lab, pod: str, more: dict[str, Any], said: str) -> None:
    """The key is named, and the kernel is as before."""
    with pytest.raises(CniFailed) as raised:
        lab.call("ADD", conf(lab, **more), pod)
    assert said in raised.value.msg and raised.value.code in (4, 7)
    assert not links("bridge") + links("veth")


def test_a_kernel_without_vlans_is_named(lab: Lab, pod: str) -> None:
    """And is left without the bridge. With them: tests/guest/test_vlan_bridge_guest.py."""
    try:
        lab.call("ADD", conf(lab, vlan=100), pod)
    except CniFailed as failed:
        assert failed.code == 7 and "this kernel's bridges filter no VLANs" in failed.msg, failed
        assert not links("bridge") + links("veth")


def test_a_bridge_that_stands_is_adopted(lab: Lab, pod: str) -> None:
    """It keeps what it has and stays when Podway goes, without what Podway gave it. The answer has the MAC
    that it took of its port, where nobody gave it one."""
    import subprocess

    lab.start()
    subprocess.run(["ip", "link", "add", "cni7", "type", "bridge"], check=True)
    subprocess.run(["ip", "addr", "add", "10.22.0.1/24", "dev", "cni7"], check=True)
    result = lab.call("ADD", conf(lab), pod)
    assert result["interfaces"][0] == {"name": "cni7", "mac": ip("link", "show", "cni7")[0]["address"]}
    lab.call("DEL", conf(lab), pod)
    wait_for(lambda: not links("veth"))
    lab.stop()
    lab.podway("uninstall")
    (bridge,) = ip("addr", "show", "cni7")
    addresses = [one["local"] for one in bridge["addr_info"] if one["scope"] == "global"]
    assert addresses == ["10.22.0.1"]


def test_another_address_needs_force(node: Lab, pod: str, other_pod: str) -> None:
    """isGateway with another subnet on the same bridge."""
    node.call("ADD", conf(node), pod)
    other = {"type": "host-local", "dataDir": str(node.data), "subnet": "10.77.0.0/24"}
    with pytest.raises(CniFailed, match=r"cni7 has the address 10\.22\.0\.1/24, not 10\.77\.0\.1/24"):
        node.call("ADD", conf(node, name="n2", ipam=other), other_pod)
    node.call("ADD", conf(node, name="n2", ipam=other, forceAddress=True), other_pod)
    found = [one["local"] for one in ip("-4", "addr", "show", "cni7")[0]["addr_info"]]
    assert found == ["10.77.0.1"]
