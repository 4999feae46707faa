"""One Speaker for each feature of the configuration file."""

from __future__ import annotations

from typing import Any

from podway.model.bgp import PrefixMatch, Rule, Session, Speaker

BASE: dict[str, Any] = {
    "router_id": "192.0.2.1",
    "uplinks": ("up0",),
    "own": ("10.244.1.0/26", "fd00:10:244::/122"),
    "pools": ("10.244.0.0/16", "fd00:10:244::/48"),
    "outside": (PrefixMatch("10.244.0.0/16", 16, 26), PrefixMatch("fd00:10:244::/48", 48, 122)),
}
NODE: dict[str, Any] = {
    "name": "n_b_1234",
    "description": "node b",
    "neighbor": "192.0.2.2",
    "local": "192.0.2.1",
    "remote_as": 64512,
    "local_as": 64512,
    "ipv4": True,
    "node": True,
}
TOR: dict[str, Any] = NODE | {"name": "p_tor_5678", "description": "", "remote_as": 4200000001, "node": False}
SIX: dict[str, Any] = {"neighbor": "2001:db8::2", "local": "2001:db8::1", "ipv4": False, "ipv6": True}


def speaker(*sessions: dict[str, Any], **more: Any) -> Speaker:
    """``BASE`` with sessions."""
    return Speaker(**(BASE | more), sessions=tuple(Session(**one) for one in sessions))


FEATURES: dict[str, Speaker] = {
    "alone": speaker(),
    "mesh": speaker(NODE, NODE | SIX | {"name": "n_b6_1234", "passive": True}),
    "bfd": speaker(
        NODE | {"bfd": "on", "graceful": "aware"}, TOR | {"bfd": "graceful", "hold": 9, "keepalive": 3}
    ),
    "reflector": speaker(NODE, reflector=True),
    "outside": speaker(
        NODE, TOR, TOR | {"name": "p_any_9012", "neighbor": "198.51.100.0/24", "dynamic": True}
    ),
    "external": speaker(TOR | {"multihop": 2, "password": "s3cret; #}", "max_prefixes": 1000, "port": 1790}),
    "ttl-security": speaker(TOR | {"ttl_security": True, "next_hop_self": True, "restart_time": 30}),
    "dynamic": speaker(TOR | {"neighbor": "198.51.100.0/24", "dynamic": True, "passive": True}),
    "v4-over-v6": speaker(TOR | SIX | {"ipv4": True, "extended_next_hop": True}),
    "filters": speaker(
        TOR
        | {
            "imports": (
                Rule(
                    accept=True,
                    prefixes=(PrefixMatch("0.0.0.0/0", 0, 0), PrefixMatch("::/0", 0, 0)),
                    local_pref=50,
                ),
                Rule(accept=False, communities=("65000:1", "1:2:3"), as_path_has=666),
            ),
            "exports": (
                Rule(
                    accept=True,
                    prefixes=(PrefixMatch("10.244.0.0/16", 26, 32),),
                    prepend=2,
                    add=("64512:7", "4200000001:2:3"),
                ),
                Rule(accept=False),
            ),
        }
    ),
    "advertised": speaker(TOR, advertised=("10.96.0.0/16", "198.51.100.7/32", "fd00:96::/112")),
    "borrowed": speaker(
        NODE | {"ipv6": True},
        TOR,
        own=("10.244.2.0/26", "10.244.9.17/32", "fd00:10:244::/122"),
        lent=("10.244.2.63/32", "fd00:10:244::3f/128"),
    ),
    "strict": speaker(NODE, TOR | {"neighbor": "198.51.100.0/24", "dynamic": True}, strict=True),
    "draining": speaker(NODE, TOR | {"exports": (Rule(accept=True, local_pref=50),)}, draining=True),
}
