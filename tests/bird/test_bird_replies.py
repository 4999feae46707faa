"""Real replies of BIRD, and replies of no BIRD at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.bird import replies

HERE = Path(__file__).parent / "replies"


def _reply(name: str, version: str = "2.0.12") -> str:
    return (HERE / f"{name}-{version}.txt").read_text()


def test_sessions() -> None:
    up, down = replies.sessions(_reply("protocols"))
    assert (up.name, up.established, up.neighbor, up.remote_as) == ("n_x", True, "192.0.2.2", 64512)
    assert up.channels == {"ipv4": replies.Counts(imported=2, exported=2, preferred=1)}
    assert (down.state, down.last_error, down.established) == ("Connect", "Socket: No route to host", False)
    assert list(down.channels) == ["ipv4", "ipv6"] and (up.keeps, down.keeps) == (True, False)


def test_states_alone() -> None:
    """A line each, as "show protocols" has them."""
    heads = [line for line in _reply("protocols").splitlines() if line[:4] != "1006" and line[:1] != " "]
    for reply in ("\n".join(heads), _reply("protocols")):
        found = replies.standings(reply)
        assert {name: one.state for name, one in found.items()} == {"n_x": "Established", "n_y": "Connect"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2026-11-30T12:24:51+0530", 1796021691.0), ("12:24:51.123", 0.0), ("2026-11-30", 0.0), ("", 0.0)],
)
def test_since_when(text: str, seconds: float) -> None:
    """As Podway has BIRD say it, in any time zone; BIRD's own form, which has no date, is left out."""
    found = replies.standings(f"1002-n_x        BGP        ---        up     {text}  Established   \n")
    assert found["n_x"].since == seconds


def test_whose_routes_are_kept() -> None:
    reply = _reply("protocols")
    assert replies.keeping(reply) == []
    state = "BGP state:          Connect\n"
    kept = reply.replace(state, state + "     Neighbor graceful restart active\n")
    assert kept != reply and replies.keeping(kept) == ["n_y"]


def test_bfd() -> None:
    (one,) = replies.bfd(_reply("bfd"))
    assert (one.address, one.interface, one.state, one.interval, one.timeout) == (
        "192.0.2.2",
        "v0",
        "Up",
        0.1,
        0.3,
    )


def test_routes_that_bgp_brought() -> None:
    found = replies.routes(_reply("routes"))
    assert [(one.prefix, one.best, one.via) for one in found] == [
        ("192.0.2.0/24", False, ("192.0.2.2",)),
        ("10.2.0.0/24", True, ("192.0.2.2",)),
    ]


@pytest.mark.parametrize("version", ["2.17.6", "3.1.8"])
def test_later_versions(version: str) -> None:
    """The same two speakers as BIRD 2.17 and 3.1 show them."""
    up, down = replies.sessions(_reply("protocols", version))
    assert (up.name, up.established, up.remote_as, up.channels["ipv4"].imported) == (
        "n_b_1234",
        True,
        64512,
        1,
    )
    assert (down.name, down.established, list(down.channels)) == ("n_gone", False, ["ipv4", "ipv6"])
    found = replies.standings(_reply("protocols", version))
    assert found["n_b_1234"].state == "Established" and found["n_gone"].state != "Established"
    (route,) = replies.routes(_reply("routes", version))
    assert (route.prefix, route.session, route.via) == ("10.244.2.0/26", "n_b_1234", ("192.0.2.2",))
    assert (route.best, route.as_path, route.local_pref) == (True, "", "100")
    (peer,) = replies.bfd(_reply("bfd", version))
    assert (peer.address, peer.state) == ("192.0.2.2", "Up")


def test_an_error() -> None:
    assert replies.error_of("0001 BIRD 2.0.12 ready.\n9001 syntax error, unexpected X\n") == (
        "syntax error, unexpected X"
    )
    assert replies.error_of(_reply("status")) == ""


@given(st.text(st.sampled_from("0123456789- \n:[]*abcBGPUp./"), max_size=300))
def test_anything_else_is_left_out(text: str) -> None:
    replies.sessions(text)
    replies.standings(text)
    replies.bfd(text)
    replies.routes(text)
