"""What a network namespace holds, in a form that two runs can be compared in: random names and MACs are
replaced, what follows from time or from the order of the kernel's numbers is left out."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

State = dict[str, Any]

RANDOM_LINK = re.compile(r"\b(?:veth|bwp|ifb|pi|pv|tmp)[0-9a-f]{8,13}\b")
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.IGNORECASE)
#: kinds of links that stand in pods alone, whose options are all a plugin's
_OF_PODS = ("macvlan", "ipvlan", "vlan", "tun", "vrf")
_CONF = Path("/proc/sys/net")
#: settings that say nothing of what a plugin did
_UNSETTLED = ("stable_secret", "mtu", "force_mld_version")


class Names:
    """Placeholders for what is random, in the order of appearance; ``kept``: MACs that were asked for."""

    def __init__(self, kept: tuple[str, ...] = ()) -> None:
        self._found: dict[str, str] = {}
        self._kept = {mac.lower() for mac in kept} | {"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"}

    def learn_link(self, where: str, name: str, mac: str, peer: str = "") -> None:
        """A link of namespace ``where``, and its other end there; a placeholder of a MAC says whose it is."""
        if peer and RANDOM_LINK.fullmatch(name):
            self._found.setdefault(name, f"<port of {peer}>")
        elif RANDOM_LINK.fullmatch(name) and name not in self._found:
            kind = "ifb" if name.startswith(("bwp", "ifb", "pi")) else "veth"
            number = sum(known.startswith(f"<{kind}") for known in self._found.values())
            self._found[name] = f"<{kind}{number}>"
        if mac and mac.lower() not in self._kept:
            self._found.setdefault(mac.lower(), f"<mac of {where} {self._found.get(name, name)}>")

    def hide(self, text: str) -> str:
        """``text`` with placeholders."""
        text = RANDOM_LINK.sub(lambda found: self._found.get(found[0], "<unseen link>"), text)
        return MAC.sub(lambda found: self._mac(found[0].lower()), text)

    def _mac(self, mac: str) -> str:
        return mac if mac in self._kept else self._found.get(mac, "<unseen mac>")

    def apply(self, value: Any) -> Any:
        """The same over a JSON value."""
        return json.loads(self.hide(json.dumps(value)))


def _ip(family: str, *commands: str) -> list[Any]:
    """Answers to several ``ip`` commands by one process."""
    text = "".join(f"{command}\n" for command in commands)
    done = subprocess.run(
        ["ip", "-j", "-d", family, "-batch", "-"], input=text, capture_output=True, text=True
    )
    decoder, at, found = json.JSONDecoder(), 0, []
    out = done.stdout
    while at < len(out):
        if out[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(out, at)
        found.append([one for one in value if one])
    assert len(found) == len(commands), f"{done.stdout} {done.stderr}"
    return found


def learn(where: str, names: Names) -> None:
    """The links of this thread's namespace, before somebody changes their MACs."""
    (links,) = _ip("-4", "link show")
    _learn(where, names, links)


def _learn(where: str, names: Names, links: list[Any]) -> None:
    for one in links:
        names.learn_link(where, one["ifname"], one.get("address", ""), one.get("link", ""))


def look(where: str, names: Names) -> State:
    """The state of this thread's namespace; ``where`` is what it is called."""
    routes, rules, neighbours = "route show table all", "rule show", "neigh show nud permanent"
    links, addresses, routes4, rules4, neighbours4 = _ip(
        "-4", "link show", "addr show", routes, rules, neighbours
    )
    addresses6, routes6, rules6, neighbours6 = _ip("-6", "addr show", routes, rules, neighbours)
    _learn(where, names, links)
    state = {
        "links": {one["ifname"]: _link(one) for one in links},
        "addresses": _addresses(addresses) | _addresses(addresses6),
        "routes": dict(_route(one) for one in [*routes4, *routes6] if not _is_dull(one)),
        "rules": [json.dumps(one, sort_keys=True) for one in [*rules4, *rules6]],
        "neighbours": [json.dumps(one, sort_keys=True) for one in [*neighbours4, *neighbours6]],
        "vlans": _vlans(),
        "queues": _queues(),
        "sysctls": _sysctls(),
    }
    return {key: sorted(one) if isinstance(one, list) else one for key, one in names.apply(state).items()}


def _link(one: dict[str, Any]) -> State:
    kept = ("mtu", "master", "txqlen", "promiscuity", "allmulti", "address", "ifalias", "group", "qdisc")
    info = one.get("linkinfo", {})
    port = info.get("info_slave_data", {})
    bridge = info.get("info_data", {}) if info.get("info_kind") == "bridge" else {}
    options = ("vlan_filtering", "stp_state", "forward_delay", "mcast_snooping", "vlan_default_pvid")
    settings = ("hairpin", "isolated", "learning", "flood", "guard", "proxy_arp", "neigh_suppress")
    return {
        **{key: one[key] for key in kept if key in one},
        "kind": info.get("info_kind", ""),
        "flags": sorted(set(one["flags"]) - {"LOWER_UP", "NO-CARRIER", "M-DOWN"}),
        "port": {key: port[key] for key in settings if key in port},
        "bridge": {key: bridge[key] for key in options if key in bridge},
        "options": info.get("info_data", {}) if info.get("info_kind") in _OF_PODS else {},
    }


def _addresses(found: list[dict[str, Any]]) -> State:
    kept = ("scope", "broadcast", "noprefixroute", "nodad", "peer", "label", "address")
    return {
        f"{link['ifname']} {one['local']}/{one['prefixlen']}": {k: one[k] for k in kept if k in one}
        for link in found
        for one in link.get("addr_info", ())
        if not one["local"].startswith("fe80:")
    }


def _is_dull(one: dict[str, Any]) -> bool:
    """Of the routes that the kernel makes for every link by itself, in its own time; those of its addresses,
    in a VRF's table, too, come once no duplicate is looked for any more."""
    own = one["dst"].startswith(("fe80:", "ff00:", "multicast"))
    local = one.get("table") == "local" or (one.get("type"), one.get("protocol")) == ("local", "kernel")
    return own or local or one.get("dev") == "lo"


def _route(one: dict[str, Any]) -> tuple[str, State]:
    kept = {key: value for key, value in one.items() if key not in ("flags", "pref", "metrics")}
    numbers = {key: value for part in one.get("metrics", ()) for key, value in part.items()}
    flags = [flag for flag in one.get("flags", ()) if flag != "linkdown"]
    what = " ".join(str(one[key]) for key in ("dst", "table", "metric", "dev") if key in one)
    return what.replace("/", "|"), {**kept, **numbers, "flags": flags}


def _vlans() -> State:
    """Of each port of a bridge that filters: VLAN → how frames of it leave."""
    told = subprocess.run(["bridge", "-j", "vlan", "show"], capture_output=True, text=True).stdout
    found = json.loads(told) if told.strip() else []
    return {
        port["ifname"]: {
            f"{one['vlan']}-{one.get('vlanEnd', one['vlan'])}": sorted(one.get("flags", ()))
            for one in port["vlans"]
        }
        for port in found
        if port.get("vlans")
    }


def _queues() -> list[str]:
    found = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True).stdout
    dull = re.compile(r"qdisc (noqueue|pfifo_fast|fq_codel|mq) ")
    return [re.sub(r"refcnt \d+ ?", "", line).strip() for line in found.splitlines() if not dull.match(line)]


def _sysctls() -> State:
    """Of the namespace as a whole, and of each link where they aren't the default's."""
    found: State = {}
    for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/all/send_redirects"):
        found[path] = (_CONF / path).read_text().strip()
    for family in ("ipv4", "ipv6"):
        base = _CONF / family / "conf"
        default = _values(base / "default")
        for link in sorted(path.name for path in base.iterdir()):
            if link not in ("all", "default"):
                values = _values(base / link)
                found |= {f"{family}/{link}/{k}": v for k, v in values.items() if v != default.get(k)}
    return found


def _values(directory: Path) -> dict[str, str]:
    values = {}
    for path in directory.iterdir():
        if path.name not in _UNSETTLED:
            try:
                values[path.name] = path.read_text().strip()
            except OSError:
                continue
    return values


def mentions(*words: str) -> list[str]:
    """Those of ``words`` that this namespace's packet filter rules still say."""
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    return [word for word in words if word and re.search(rf"(?<![\w.:]){re.escape(word)}(?![\w.:])", rules)]


def flattened(value: Any, path: str = "") -> dict[str, Any]:
    """Path → leaf; an empty object or array is a leaf."""
    if isinstance(value, dict) and value:
        return {k: v for key, one in value.items() for k, v in flattened(one, f"{path}/{key}").items()}
    if isinstance(value, list) and value:
        return {k: v for at, one in enumerate(value) for k, v in flattened(one, f"{path}/{at}").items()}
    return {path: value}
