"""What several plugins' configurations have in common."""

from __future__ import annotations

import msgspec

from podway.cni import config, runtime
from podway.cni.dropin.ask import Ask
from podway.cni.errors import wrong
from podway.cni.protocol import Dns, Interface, Result
from podway.cni.reader import Section


def masquerade(section: Section) -> bool:
    """``ipMasq``; ``ipMasqBackend`` may name either, both are Podway's own nftables. Raises CniError 7."""
    backend = section.text("ipMasqBackend")
    if backend not in ("", "iptables", "nftables"):
        raise wrong("ipMasqBackend", f"{backend!r} is neither iptables nor nftables")
    return section.flag("ipMasq", False)


def asked_mac(ask: Ask) -> str:
    """What the runtime asks for: CNI_ARGS before args.cni before runtimeConfig, the last that is there."""
    run, told = ask.section.section("runtimeConfig"), ask.section.section("args").section("cni")
    arguments = runtime.pod_arguments(ask.call.env.get("CNI_ARGS", ""))
    return runtime.mac(run) or runtime.mac(told) or arguments.mac


def answer(ask: Ask, interfaces: tuple[Interface, ...], given: Result) -> Result:
    """What was made, with the addresses, routes and DNS settings of the IPAM plugin; the configuration's
    own DNS settings win."""
    dns = config.own_dns(ask.section)
    return msgspec.structs.replace(given, interfaces=interfaces, dns=dns if dns != Dns() else given.dns)
