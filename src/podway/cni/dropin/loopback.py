"""``loopback``: lo is up in the pod. Nothing of it outlives the pod, so nothing is journalled."""

from __future__ import annotations

from podway.cni.dropin.ask import Ask
from podway.cni.protocol import Address, Interface, Result
from podway.cni.steps import Steps, Work
from podway.kernel import inside
from podway.model.errors import Conflict
from podway.model.objects import Link, family_of
from podway.node import wiring

_NAME = "lo"


class Loopback:
    """See ``frame.Plugin``."""

    def add(self, ask: Ask) -> Steps[Result | None]:
        namespace = ask.pod_namespace()
        found: tuple[str, ...] = yield Work(lambda _: inside.loopback_up(namespace))
        if ask.before is not None:
            return ask.before
        first = {family_of(one): one for one in reversed(found)}
        return Result(
            interfaces=(Interface(name=_NAME, mac="00:00:00:00:00:00", sandbox=ask.me.namespace),),
            ips=tuple(Address(address=first[family], interface=0) for family in sorted(first)),
        )

    def delete(self, ask: Ask) -> Steps[None]:
        if ask.call.pod_fd >= 0:  # otherwise it is gone, and lo with it
            namespace, down = ask.pod_namespace(), Link(name=_NAME, kind="", up=False)
            who = f"container {ask.me.container}"
            yield Work(lambda engine: wiring.program_pod(engine.kernel, [down], namespace, who))

    def check(self, ask: Ask) -> Steps[None]:
        namespace = ask.pod_namespace()
        found = yield Work(lambda engine: engine.kernel.link_inside(namespace, _NAME))
        if found is None or not found.up:
            raise Conflict(f"{_NAME} is down in the pod", f"container {ask.me.container}")

    def collect(self, ask: Ask) -> Steps[None]:
        yield from ()

    def status(self, ask: Ask) -> Steps[None]:
        yield from ()


PLUGIN = Loopback()
