"""``dummy``: a link with addresses that leads nowhere."""

from __future__ import annotations

from podway.cni.dropin import inner
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.paths import paths
from podway.cni.protocol import Result
from podway.model import names
from podway.model.dropin import Dummy


def want(ask: Ask, given: Result) -> Dummy:
    """It takes no settings but those of IPAM."""
    first = given.ips[0].address if given.ips else f"{ask.me.container}/{ask.me.ifname}"
    return Dummy(mac=names.pod_mac(first), routes=paths(given, ask.me.ifname))


PLUGIN = inner.maker("dummy", want, "dummy", needs_ipam=True, segment=False)
