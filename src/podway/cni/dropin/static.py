"""``static``: the addresses that are written down, or that the runtime asks for. It keeps nothing."""

from __future__ import annotations

import ipaddress

from podway.cni import config, result, runtime
from podway.cni.dropin.ask import Ask
from podway.cni.errors import wrong
from podway.cni.protocol import Address, Result, at_least
from podway.cni.reader import Section, as_text
from podway.cni.steps import Steps
from podway.model.errors import Conflict
from podway.model.objects import family_of


def given(ask: Ask) -> Result:
    """The result of ADD. Raises CniError 4 or 7.

    CNI_ARGS adds to what is written down; what args.cni or runtimeConfig ask for replaces both. The gateways
    of CNI_ARGS are for what is asked for."""
    own, run = ask.section.section("ipam"), ask.section.section("runtimeConfig")
    arguments = runtime.pod_arguments(ask.call.env.get("CNI_ARGS", ""))
    ips = [_address(one) for one in own.sections("addresses")]
    ips += [_asked("CNI_ARGS: IP", one, arguments.gateways) for one in arguments.asked]
    for asked in (ask.section.section("args").section("cni"), run):
        wanted = [_asked(path, as_text(path, item), arguments.gateways) for path, item in asked.items("ips")]
        ips = wanted or ips
    if not at_least(ask.conf.version, "0.3.0"):
        families = [family_of(one.address) for one in ips]
        if len(set(families)) < len(families):
            raise wrong(
                own.at("addresses"), f"cniVersion {ask.conf.version} has room for one address a family"
            )
    routes = tuple(result.decode_route(one) for one in own.sections("routes"))
    return Result(ips=tuple(ips), routes=routes, dns=config.own_dns(own))


def _address(one: Section) -> Address:
    gateway = one.text("gateway")
    return Address(
        address=_prefixed(one.at("address"), one.text("address")),
        gateway=runtime.address(one.at("gateway"), gateway) if gateway else "",
    )


def _prefixed(key: str, text: str) -> str:
    """An address that has its prefix length. Raises CniError 7."""
    try:
        if "/" not in text or "%" in text:
            raise ValueError
        return str(ipaddress.ip_interface(text))
    except ValueError:
        raise wrong(key, f"{text!r} is not an address with its prefix length, as 10.1.0.5/24") from None


def _asked(key: str, text: str, gateways: tuple[str, ...]) -> Address:
    """With the last of these gateways that is in its subnet."""
    one = _prefixed(key, text)
    subnet = ipaddress.ip_interface(one).network
    mine = [gateway for gateway in gateways if ipaddress.ip_address(gateway) in subnet]
    return Address(address=one, gateway=mine[-1] if mine else "")


def require(ask: Ask) -> None:
    """For CHECK: every address is in prevResult, with its gateway. Raises CniError 7 or Conflict."""
    if ask.before is None:
        raise wrong("prevResult", "is missing; CHECK compares with it")
    there, who = {one.address: one.gateway for one in ask.before.ips}, f"container {ask.me.container}"
    for one in given(ask).ips:
        if one.address not in there:
            raise Conflict(f"address {one.address} is not in prevResult", who)
        if one.gateway not in ("", there[one.address]):
            raise Conflict(f"address {one.address} has another gateway in prevResult", who)


class Static:
    """See ``frame.Plugin``."""

    def add(self, ask: Ask) -> Steps[Result | None]:
        yield from ()
        return given(ask)

    def delete(self, ask: Ask) -> Steps[None]:
        yield from ()

    def check(self, ask: Ask) -> Steps[None]:
        yield from ()
        require(ask)

    def collect(self, ask: Ask) -> Steps[None]:
        yield from ()

    def status(self, ask: Ask) -> Steps[None]:
        yield from ()


PLUGIN = Static()
