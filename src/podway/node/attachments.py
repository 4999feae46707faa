"""ADD, DEL and CHECK of pods on one node.

ADD: choose addresses, journal the intent, program the host's side and then the pod's, mark
it ready. DEL: journal, take the pod out of every set and its link out of service, answer; links are
then deleted together (``burial``), which the kernel does thirty times faster than one by one. A crash
between any two steps leaves a journal row that the next DEL, GC or start finds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model import names
from podway.model.errors import Conflict, Lost
from podway.model.objects import Op, Rule, Sysctl
from podway.model.resources import Endpoint
from podway.node import published, wiring
from podway.node.book import AddressBook
from podway.node.burial import Burial
from podway.node.database import Database
from podway.node.faults import reach
from podway.node.inside import by, living
from podway.node.requests import AttachRequest
from podway.plan.attach import bridge_of
from podway.plan.attach.pod import inside
from podway.plan.planner import Planner


class Attachments:
    """The endpoints of this node. All methods run on the writer thread."""

    def __init__(
        self,
        database: Database,
        kernel: Kernel,
        planner: Planner,
        book: AddressBook,
        boot_id: str,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._kernel = kernel
        self._planner = planner
        self._book = book
        self._boot_id = boot_id
        self._now = now
        self.burial = Burial(database, kernel, book)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """By id, those being attached or attached."""
        return self._planner.inputs.endpoints

    def add(self, request: AttachRequest, namespace: int) -> Endpoint:
        """Attach, or return what stands when the same request was done already."""
        reach("add.begin")
        identity = namespaces.identity(namespace)
        known = self.endpoints.get(f"{request.container}/{request.ifname}")
        if known is not None:
            if _same(known, request, identity):
                return known
            raise Conflict(
                f"interface {request.ifname} of container {request.container} is attached already",
                known.host_link,
                f"it has {', '.join(known.addresses)} in network {known.network}; send DEL first",
            )
        endpoint = self._prepare(request, identity)
        self._planner.update_endpoint(endpoint.id, endpoint)
        try:
            self._database.begin_add(endpoint)
        except BaseException:
            self._planner.update_endpoint(endpoint.id, None)
            self._book.release(endpoint, cools=False)
            raise
        reach("add.journalled")
        try:
            self.wire(endpoint, namespace)
            self._database.finish_add(endpoint.id)
        except BaseException:
            self._detach(endpoint)
            self.burial.complete(cooling=False)
            raise
        reach("add.finished")
        return endpoint

    def _prepare(self, request: AttachRequest, identity: str) -> Endpoint:
        """The endpoint that a request asks for, with addresses allocated to it."""
        key = f"{request.container}/{request.ifname}"
        if self.burial.occupies(key, identity, request.ips):
            self.burial.make_room()
        network = self._book.network(request.network)
        published.check(request, network, self.endpoints.values())
        choice = self._book.allocate(network, key, request.ips, request.ranges)
        reach("add.claimed")
        links, routes = self._book.mtu(network)
        return Endpoint(
            container=request.container,
            ifname=request.ifname,
            network=network.name,
            addresses=choice.addresses,
            gateways=choice.gateways if request.default_route else (),
            routes=request.routes,
            metric=names.route_metric(request.ifname),
            mac=request.mac or names.pod_mac(choice.addresses[0]),
            host_link=names.host_link(request.container, request.ifname),
            bridge=bridge_of(network),
            mtu=request.mtu or links,
            route_mtu=0 if request.mtu else routes,
            own_mtu=bool(request.mtu),
            namespace=request.namespace,
            namespace_id=identity,
            boot_id=self._boot_id,
            ports=request.ports,
            bandwidth=request.bandwidth,
            pod=request.pod,
            configuration=request.configuration,
        )

    def wire(self, endpoint: Endpoint, namespace: int) -> None:
        """Program both sides. Raises Conflict, Unavailable or OSError with the kernel's own words."""
        fragment, pods = ("endpoint", endpoint.id), {endpoint.id: namespace}
        indexes = wiring.program_node(self._kernel, self._planner, fragment, _who(endpoint), pods)
        reach("add.wired")
        self.program_inside(endpoint, namespace, indexes)
        self._kernel.until_they_send(filter(None, (endpoint.host_link, endpoint.bridge)))
        reach("add.inside")
        self.burial.forget_flows(endpoint)

    def program_inside(
        self, endpoint: Endpoint, namespace: int, indexes: Mapping[str, int] | None = None
    ) -> None:
        """The pod's side alone, on an interface that stands. ``indexes``: of links there, where known."""
        wiring.program_pod(self._kernel, inside(endpoint), namespace, _who(endpoint), indexes=indexes)
        if endpoint.route_mtu:  # those that the kernel made by itself too
            self._kernel.resize_inside(namespace, endpoint.ifname, endpoint.mtu, endpoint.route_mtu, 0)

    def delete(self, container: str, ifname: str, namespace: int = -1) -> None:
        """Take a pod's interface out of service; unknown is no error. Its links go at the burial."""
        reach("delete.begin")
        endpoint = self.endpoints.get(f"{container}/{ifname}")
        if endpoint is None:
            self.remove_stray(names.host_link(container, ifname))
            return
        self._database.begin_delete(endpoint.id)
        reach("delete.journalled")
        self._detach(endpoint, namespace)
        reach("delete.detached")

    def remove_stray(self, name: str) -> None:
        """A link that no journal knows, left by a lost database, still goes by its derived name."""
        link = self._kernel.rtnetlink.get_link(name)
        if link is not None:
            self._kernel.apply([Op(None, link)])

    def _detach(self, endpoint: Endpoint, namespace: int = -1) -> None:
        rules = tuple(one for one in inside(endpoint) if isinstance(one, Rule))
        if rules:  # of a second interface: all else goes with it
            with living(by(endpoint, namespace)) as pod:
                if pod is not None:
                    wiring.program_pod(self._kernel, (), pod, _who(endpoint), rules)
        forget = functools.partial(self._planner.update_endpoint, endpoint.id, None)
        removals = wiring.take_out(self._kernel, self._planner, ("endpoint", endpoint.id), forget)
        self.burial.doom(endpoint, removals)

    def check(self, request: AttachRequest, namespace: int, addresses: tuple[str, ...]) -> None:
        """Raise Conflict (Lost on the node) naming the first thing that isn't as ADD left it.

        What plugins after this one may set in the pod is no objection: its sysctls, its MTU, more routes;
        ``request.mac`` is the MAC that they left."""
        subject = f"container {request.container} interface {request.ifname}"
        endpoint = self.endpoints.get(f"{request.container}/{request.ifname}")
        if endpoint is None:
            raise Conflict("no address is reserved: this interface is not attached", subject)
        if addresses and set(addresses) != set(endpoint.addresses):
            have = ", ".join(endpoint.addresses)
            raise Conflict(f"prevResult has {', '.join(addresses)}, attached is {have}", subject)
        desired = self._planner.desired  # differs where a port leads to another interface of the pod
        wanted = [desired.get(one.key, one) for one in self._planner.fragment("endpoint", endpoint.id)]
        inner = [wiring.as_left(o, request.mac) for o in inside(endpoint) if not isinstance(o, Sysctl)]
        wiring.require(wanted, self._kernel.look_up(wanted), "on the node", subject, Lost)
        wiring.require(inner, self._kernel.look_up_inside(namespace, inner), "in the pod", subject)


def _who(endpoint: Endpoint) -> str:
    return f"container {endpoint.container}"


def _same(known: Endpoint, request: AttachRequest, identity: str) -> bool:
    """Whether a repeated ADD asks for exactly what is there."""
    have = {address.partition("/")[0] for address in known.addresses}
    return (
        known.network == request.network
        and known.namespace_id == identity
        and known.ports == request.ports
        and known.bandwidth == request.bandwidth
        and request.mac in ("", known.mac)
        and request.mtu in (0, known.mtu)
        and request.routes == known.routes
        and request.default_route == bool(known.gateways)
        and {ip.partition("/")[0] for ip in request.ips} <= have
    )
