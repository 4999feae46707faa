"""host-local's order: every address once, after the last one given, never the gateway."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.ipam import hostlocal
from podway.ipam.hostlocal import Range
from podway.model.errors import Conflict, Exhausted, InvalidInput


def made(third: int, first: int, last: int, gateway: int) -> Range:
    """10.0.THIRD.FIRST to 10.0.THIRD.LAST."""
    base = f"10.0.{third}."
    return Range(
        subnet=f"{base}0/24", first=f"{base}{first}", last=f"{base}{last}", gateway=f"{base}{gateway}"
    )


@st.composite
def sets(draw: st.DrawFn) -> tuple[Range, ...]:
    """Up to three ranges of different subnets."""
    found = []
    for third in range(draw(st.integers(1, 3))):
        first, last = sorted((draw(st.integers(1, 254)), draw(st.integers(1, 254))))
        found.append(made(third, first, last, draw(st.integers(1, 254))))
    return tuple(found)


def every(ranges: tuple[Range, ...]) -> set[str]:
    """What may be given out of a set."""
    found = set()
    for one in ranges:
        first, last = int(ipaddress.ip_address(one.first)), int(ipaddress.ip_address(one.last))
        found |= {str(ipaddress.ip_address(number)) for number in range(first, last + 1)} - {one.gateway}
    return found


@given(sets(), st.data())
def test_every_address_once_and_the_last_one_last(ranges: tuple[Range, ...], data: st.DataObject) -> None:
    """Wherever it begins."""
    addresses = sorted(every(ranges))
    last = data.draw(st.sampled_from(["", "192.0.2.1", *addresses]))
    order = [one.address for one in hostlocal.in_turn(ranges, last)]
    assert len(order) == len(set(order)) and set(order) == set(addresses)
    if last in addresses:
        assert order[-1] == last


def test_the_next_one_then_the_start_again() -> None:
    """As the reference plugin goes round."""
    ranges = (made(1, 5, 7, 1), made(2, 1, 2, 1))
    given: list[str] = []
    for _ in range(4):
        given.append(hostlocal.choose(ranges, given, given[-1] if given else "").address)
    assert given == ["10.0.1.5", "10.0.1.6", "10.0.1.7", "10.0.2.2"]
    with pytest.raises(Exhausted, match=r"10\.0\.1\.5-10\.0\.1\.7"):
        hostlocal.choose(ranges, given, given[-1])
    assert hostlocal.choose(ranges, given[1:], given[-1]).address == "10.0.1.5"


def test_what_is_asked_for() -> None:
    """Is given if it may be; the gateway, a taken one and one of no range are refused by name."""
    ranges = (made(1, 1, 9, 1),)
    assert hostlocal.choose(ranges, (), "", "10.0.1.9").prefixed == "10.0.1.9/24"
    with pytest.raises(InvalidInput, match="gateway"):
        hostlocal.choose(ranges, (), "", "10.0.1.1")
    with pytest.raises(Conflict, match=r"10\.0\.1\.9"):
        hostlocal.choose(ranges, ("10.0.1.9",), "", "10.0.1.9")
    assert hostlocal.assign([ranges, (made(2, 1, 9, 1),)], ["10.0.2.5"]) == ["", "10.0.2.5"]
    with pytest.raises(InvalidInput, match=r"10\.9\.9\.9"):
        hostlocal.assign([ranges], ["10.9.9.9"])
