"""``loopback``: lo is up in the pod. Nothing of it outlives the pod, so nothing is journalled."""

from __future__ import annotations

from podway.cni.answer import pod_namespace
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.steps import Steps, Work
from podway.cni.protocol import Address, Interface, Result
from podway.model.errors import Conflict
from podway.model.objects import Link
from podway.node import wiring

_NAME = "lo"


class Loopback:
    """See ``frame.Plugin``."""

    def _set(self, ask: Ask, up: bool, namespace: int) -> Steps[None]:
        who = f"container {ask.me.container}"
        wanted = Link(name=_NAME, kind="", up=up)
        yield Work(lambda engine: wiring.program_pod(engine.kernel, [wanted], namespace, who))

    def add(self, ask: Ask) -> Steps[Result | None]:
        yield from self._set(ask, True, pod_namespace(ask.call))
        if ask.before is not None:
            return ask.before
        return Result(
            interfaces=(Interface(name=_NAME, mac="00:00:00:00:00:00", sandbox=ask.me.namespace),),
            ips=(Address(address="127.0.0.1/8", interface=0), Address(address="::1/128", interface=0)),
        )

    def delete(self, ask: Ask) -> Steps[None]:
        if ask.call.pod_fd >= 0:  # otherwise it is gone, and lo with it
            yield from self._set(ask, False, pod_namespace(ask.call))

    def check(self, ask: Ask) -> Steps[None]:
        namespace = pod_namespace(ask.call)
        found = yield Work(lambda engine: engine.kernel.link_inside(namespace, _NAME))
        if found is None or not found.up:
            raise Conflict(f"{_NAME} is down in the pod", f"container {ask.me.container}")

    def collect(self, ask: Ask) -> Steps[None]:
        yield from ()

    def status(self, ask: Ask) -> Steps[None]:
        yield from ()


PLUGIN = Loopback()
