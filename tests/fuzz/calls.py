"""Calls of every plugin's name that a runtime would hardly make: valid ones with a few things wrong.

Everything comes from one ``random.Random``, so a failing number can be made again.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from podway.cni.dropin import COMMANDS, NAMES
from podway.cni.errors import INTERNAL
from podway.cni.install import EXECUTABLE
from podway.cni.protocol import VERSIONS, Answer, Call

SLOWEST = 5.0  # seconds that a call may take
PLUGINS = (EXECUTABLE, *NAMES)
#: what comes after a plugin that has made the pod's interface
CHAINED = ("bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf")
INTERFACE = ("eth0", "02:00:00:00:00:05", "10.9.0.5/24")  # which is this, with its other end on the node:
NODE_END = "fp0"
HOSTILE = (
    *("", " ", ".", "..", "../../etc/passwd", "/", "a/b", "x" * 16, "x" * 5000, "a\0b", "a\nb", "\ud800"),
    *("`touch MARK`", "$(touch MARK)", "; touch MARK", "' ; touch MARK ; '", "a b", "-rf", "%s", "\\"),
    # what a link may be called: 15 bytes, no space, / or :
    *("x%d", "%", '";}#', 'a"b;c', "$(id>M)", "`id`", "x*", "@guarded", "'x'", "-rf", "\\n", "{};", "é"),
    *('"; flush ruleset; #', "} ; delete table inet podway ; {", "net.ipv4.ip_forward", "../ip_forward"),
    *("10.9.0.0/24", "10.9.0.300", "fd00::/128", "0.0.0.0/0", "::/0", "::ffff:10.9.0.1", "fe80::1%eth0"),
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1.5),
    *([], {}, [[]], [None], [{}], {"": ""}, [[[[1]]]]),
)
ARGUMENTS = ("", "IgnoreUnknown=1;K8S_POD_NAME=a", "IP=10.9.0.60;GATEWAY=10.9.0.1", "MAC=02:00:00:00:00:03")
RAW = (
    *(b"", b" ", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b"{}", b"{}{}", b'{"a":NaN}', b"[" * 100_000),
    *(b'{"a":' * 50_000, b'{"name":"\xff"}', b'{"cniVersion":1e999}', b'{"name":"\\ud800"}', b"\0" * 1000),
)


def is_one_document(call: Call, given: Answer) -> None:
    """An error is complete and no defect; a result is an object; anything else is silence."""
    if given.exit_code == 0 and not given.stdout:
        return
    document = json.loads(given.stdout)
    assert isinstance(document, dict)
    assert document["cniVersion"]
    if given.exit_code:
        assert isinstance(document["code"], int)
        assert document["msg"]
        assert document["code"] != INTERNAL, (document, call)
        assert "Traceback" not in str(document)


class Calls:
    """Calls of one plugin, into ``directory``; ``pod`` is an open descriptor of a pod's namespace."""

    def __init__(self, plugin: str, seed: int, directory: Path, pod: int, caller: int) -> None:
        self.random = random.Random(f"{plugin} {seed}")
        self.plugin, self.directory, self.pod, self.caller = plugin, directory, pod, caller
        self.path = f"/proc/self/fd/{pod}"  # whoever has the number alone gets in too

    def valid(self) -> dict[str, Any]:
        """A configuration with nearly everything that the plugins know."""
        return {
            "cniVersion": self.random.choice(VERSIONS),
            "name": "pods",
            "type": self.plugin,
            "ipam": self._ipam(),
            "dns": {"nameservers": ["10.9.0.1"], "domain": "x", "search": ["y"], "options": ["z"]},
            "args": {"cni": self._some(0.6, ips=[self._asked(50)], **self._tuning())},
            "runtimeConfig": self._capabilities(),
            "cni.dev/valid-attachments": [],
            "prevResult": self.random.choice([None, self.previous(), self.previous()]),
            **self._of_links(),
            **self._of_chained(),
        }

    def _some(self, chance: float, **keys: Any) -> dict[str, Any]:
        """Those of ``keys`` that are there this time."""
        return {key: value for key, value in keys.items() if self.random.random() < chance}

    def _asked(self, number: int) -> str:
        """An address as runtimes ask for it, with its prefix length or without."""
        return self.random.choice([f"10.9.0.{number}", f"10.9.0.{number}/24"])

    def _ipam(self) -> dict[str, Any]:
        ranges = [[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "gateway": "10.9.0.1"}]]
        both = [*ranges, [{"subnet": "fd00:9::/64"}]]
        return {
            "type": self.random.choice(
                ["host-local", "host-local", "host-local", "static", "static", "dhcp"]
            ),
            "dataDir": str(self.directory / "data"),
            "ranges": self.random.choice([ranges, both]),
            "addresses": [{"address": "10.9.0.7/24", "gateway": "10.9.0.1"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1", "mtu": 1400, "priority": 5}],
            "request": [{"option": "121"}, {"option": "routers", "skipDefault": True}],
            "provide": [{"option": "12", "value": "x", "fromArg": "K8S_POD_NAME"}],
            "priority": 5,
            "resolvConf": str(self.directory / "resolv.conf"),
        }

    def _capabilities(self) -> dict[str, Any]:
        return self._some(
            0.5,
            portMappings=[{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
            bandwidth={"ingressRate": 1000000, "ingressBurst": 1000000},
            mac="02:00:00:00:00:06",
            dns={"servers": ["10.9.0.2"], "searches": ["y"], "options": ["z"]},
            aliases=["x"],
            **{"io.kubernetes.cri.pod-annotations": {"a": "b"}},
        ) | self._some(
            0.2,
            ips=[self._asked(51)],
            ipRanges=[[{"subnet": "10.10.0.0/24", "rangeStart": "10.10.0.9"}]],
            deviceID="0000:00:99.0",
        )

    def _of_links(self) -> dict[str, Any]:
        """Of what makes an interface."""
        modes = ["l2", "l3", "l3s"] if self.plugin == "ipvlan" else ["bridge", "private", "vepa", "passthru"]
        return {
            "bridge": "" if self.plugin == "tap" else "fz0",  # a tap's is in the pod
            "isGateway": True,
            "isDefaultGateway": False,
            "forceAddress": False,
            "ipMasq": True,
            "ipMasqBackend": "nftables",
            "mtu": 1400,
            "hairpinMode": True,
            "promiscMode": False,
            "macspoofchk": False,
            "enabledad": False,
            "portIsolation": False,
            "disableContainerInterface": False,
            **self._some(
                0.1, vlan=7, vlanTrunk=[{"minID": 8, "maxID": 9}, {"id": 11}], preserveDefaultVlan=True
            ),
            "master": "fm0",
            "mode": self.random.choice(modes),
            "linkInContainer": False,
            "bcqueuelen": 10,
            "vlanId": 7,
            "device": "fd0",
            "hwaddr": "02:00:00:00:00:04",
            "kernelpath": "/sys/devices/virtual/none",
            "pciBusID": "0000:00:99.0",
            "multiQueue": True,
            "owner": 1000,
            "group": 1000,
            "selinuxContext": "",
        }

    def _of_chained(self) -> dict[str, Any]:
        """Of what comes after another."""
        other = "firewalld" if self.plugin == "firewall" else "nftables"
        return {
            "snat": True,
            "masqAll": False,
            **self._some(0.5, markMasqBit=13) | self._some(0.1, externalSetMarkChain="MARKED"),
            "conditionsV4": ["-s", "10.9.0.0/24"],
            "conditionsV6": ["!", "-s", "fd00:9::/64"],
            "backend": self.random.choice(["iptables", other]),
            "ingressRate": 1000000,
            "ingressBurst": 1000000,
            "egressRate": 1000000,
            "egressBurst": 1000000,
            "ingressPolicy": self.random.choice(["open", "same-bridge", "isolated"]),
            "iptablesAdminChainName": "CNI-ADMIN",
            **self._some(0.3, firewalldZone="trusted"),
            "table": 100,
            "vrfname": "vrf0",
            **self._tuning(),
        }

    def _tuning(self) -> dict[str, Any]:
        """Of tuning, which reads args.cni too; others take the MAC and the MTU from there or here."""
        return {
            "sysctl": {
                "net.ipv4.conf.IFNAME.arp_notify": self.random.choice(["0", "1"]),
                "net/core/somaxconn": str(self.random.randrange(500, 4000)),
            },
            "mac": "02:00:00:00:00:02",
            "txQLen": 100,
            "promisc": True,
            "allmulti": True,
        }

    def previous(self) -> dict[str, Any]:
        """What the plugin before answered."""
        name, mac, address = INTERFACE
        return {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": NODE_END}, {"name": name, "mac": mac, "sandbox": self.path}],
            "ips": [{"address": address, "gateway": "10.9.0.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {},
        }

    def _broken(self, value: Any) -> Any:
        """The value with one place of it wrong."""
        pick = self.random
        places = list(_places(value))
        holder, key = pick.choice(places)
        way = pick.randrange(8)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = [copy.deepcopy(holder[key])] * pick.choice([1, 2, 300])
        elif way == 2 and isinstance(key, str):
            holder[key.upper()] = pick.choice(HOSTILE)
        elif way == 3 and isinstance(holder[key], str):
            holder[key] += str(pick.choice(HOSTILE))
        else:
            holder[key] = copy.deepcopy(pick.choice(HOSTILE))
        return value

    def stdin(self) -> bytes:
        """A configuration with nothing, or up to four things, or everything wrong."""
        pick = self.random
        if pick.random() < 0.03:
            return pick.choice(RAW)
        value = self.valid()
        for key in pick.sample(sorted(value), pick.randrange(len(value) - 4)):
            if key not in ("cniVersion", "name", "type", "ipam", "bridge", "master", "prevResult"):
                del value[key]
        for _ in range(pick.choice([0, 0, 1, 1, 1, 2, 4])):
            value = self._broken(value)
        text = json.dumps(value).encode("utf-8", "surrogatepass")
        if pick.random() < 0.05:
            at = pick.randrange(len(text))
            text = pick.choice([text[:at], text[:at] + bytes([pick.randrange(256)]) + text[at + 1 :]])
        return text

    def call(self) -> Call:
        """The next call."""
        pick = self.random
        env = {
            "CNI_COMMAND": pick.choice(["ADD", "ADD", "ADD", *COMMANDS, "VERSION"]),
            "CNI_CONTAINERID": pick.choice(["c1", "c2"]),
            "CNI_IFNAME": pick.choice(["eth0", "eth0", "eth1", "lo"]),
            "CNI_NETNS": self.path,
            "CNI_PATH": str(self.directory / "bin"),
            "CNI_ARGS": pick.choice(ARGUMENTS),
        }
        for _ in range(pick.choice([0, 0, 0, 0, 1])):
            name = pick.choice(list(env))
            # execve(2) ends a variable at a zero byte
            env[name] = pick.choice([one for one in HOSTILE if isinstance(one, str) and "\0" not in one])
        given = pick.random() < 0.97
        return Call(
            argv0=self.plugin,
            env=env,
            path="/usr/sbin:/usr/bin",
            stdin=self.stdin(),
            caller_fd=self.caller,
            pod_fd=self.pod if given else pick.choice([-1, self.caller]),
            pod_errno=0 if given else 2,
        )


def _places(value: Any) -> Any:
    """(holder, key) of everything below a value."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
