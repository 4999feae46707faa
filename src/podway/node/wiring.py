"""What attaching and detaching have in common: programming both sides, taking out of service, comparing."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping

import msgspec

from podway.delta.differ import CREATION_ONLY, creations, diff, matches, ordered
from podway.kernel.facade import DOOMED_GROUP, Kernel
from podway.model.errors import Conflict, InvalidInput, Unavailable
from podway.model.objects import Actual, AnyObject, Key, Link, NftElement, Op, OpResult, Rule
from podway.plan.fragments import FragmentId
from podway.plan.planner import Planner
from podway.plan.spoofing import is_guard


def program_node(
    kernel: Kernel, planner: Planner, fragment: FragmentId, who: str, pods: Mapping[str, int]
) -> dict[str, int]:
    """Make the host's side of a fragment; the ifindexes of the interfaces that this made in pods.

    Raises Conflict, InvalidInput, Unavailable or OSError."""
    objects = planner.fragment(*fragment)
    keys = [o.key for o in objects]
    clashes = [key for key in keys if key in planner.conflicts]
    if clashes:
        raise _clash(planner, clashes[0], fragment, who)
    published = [o for o in objects if isinstance(o, NftElement) and o.data]
    # such a port may lead to another interface yet
    actual = kernel.look_up(one for one in published if planner.is_shared(one.key))
    results = kernel.apply(diff(planner.desired, actual, keys).ops, pods)
    raise_first(results, who)
    made = ((one.op.want, one.other_end) for one in results if one.other_end)
    return {link.peer.name: index for link, index in made if isinstance(link, Link) and link.peer is not None}


def _clash(planner: Planner, key: Key, fragment: FragmentId, who: str) -> Conflict:
    held = next(name for _, name in planner.conflicts[key] if name != fragment[1])
    container = held.partition("/")[0]
    endpoint = planner.inputs.endpoints.get(held)
    holder = f"pod {endpoint.pod}" if endpoint is not None and endpoint.pod else f"container {container}"
    if key[0] == "nftelement" and "ports" in key[2]:
        *address, protocol, port = key[3:]
        where = f" on {address[0]}" if address else ""
        fix = "publish another port, or remove that pod"
        return Conflict(f"host port {port}/{protocol}{where} is taken by {holder}", who, fix)
    return Conflict(f"{title(key)} is wanted differently by {holder}", who)


def program_pod(
    kernel: Kernel,
    objects: Iterable[AnyObject],
    namespace: int,
    who: str,
    gone: Iterable[AnyObject] = (),
    made: Link | None = None,
    indexes: Mapping[str, int] | None = None,
) -> None:
    """Make what stands inside a pod, on interfaces that exist: they are changed, not created. Then remove
    what is ``gone``.

    ``made``: how its interface is, where that is known; ``indexes``: of links there. A rule outlives the
    interface that it was for, and may stand from an earlier one."""
    inner = [_as_change(op, made) for op in creations(objects)]
    inner += ordered(Op(None, one) for one in gone)
    if inner:
        results = kernel.apply_inside(namespace, inner, indexes)
        stands = [r for r in results if r.errno == errno.EEXIST and isinstance(r.op.want, Rule)]
        raise_first([r for r in results if r not in stands], who)


def _as_change(op: Op, made: Link | None) -> Op:
    if isinstance(op.want, Link) and op.want.vrf is None:
        if made is not None:
            return Op(op.want, made)
        return Op(op.want, Link(name=op.want.name, kind=op.want.kind, up=not op.want.up))
    return op


def take_out(
    kernel: Kernel, planner: Planner, fragment: FragmentId, forget: Callable[[], object]
) -> tuple[Op, ...]:
    """Take a fragment out of service: published ports and sets now, its links doomed together. A port that
    another interface of the pod publishes too leads there from now on.

    ``forget`` takes it out of the plan. Returns the removals of all that nobody else wants. Of these, the
    guards are left to do: a guard outlives its link, so that not even a dying pod's packets escape it."""
    objects, shared = planner.fragment(*fragment), planner.desired
    held = [o for o in objects if shared.get(o.key) == o]
    forget()
    passed_on = [Op(shared[o.key], o) for o in held if shared.get(o.key, o) != o]
    gone = [o for o in objects if o.key not in shared]
    links = [o for o in gone if isinstance(o, Link) and not o.adopted]
    now = [
        Op(None, o) for o in gone if o.key[0] in ("nftelement", "nftchain", "passage") and not is_guard(o.key)
    ]
    doom = [Op(Link(name=o.name, kind=o.kind, up=None, group=DOOMED_GROUP), o) for o in links]
    kernel.apply([*doom, *ordered([*now, *passed_on])])
    return tuple(Op(None, o) for o in gone)


def require(
    objects: Iterable[AnyObject], found: Actual, where: str, subject: str, error: type[Conflict] = Conflict
) -> None:
    """Raise ``error`` naming the first of ``objects`` that isn't in ``found`` as it should be."""
    for one in objects:
        there = found.get(one.key)
        if there is None or not matches(one, there, CREATION_ONLY.get(one.key[0], ())):
            state = "is missing" if there is None else "differs"
            raise error(f"{title(one.key)} {state} {where}", subject, "delete and add the pod")


def as_left(value: AnyObject, mac: str) -> AnyObject:
    """What an object in the pod must be like after a whole chain of plugins."""
    if isinstance(value, Link) and value.mac:
        return msgspec.structs.replace(value, mtu=None, mac=mac or value.mac)
    return value


def title(key: Key) -> str:
    """A key for people."""
    return " ".join(part for part in key if part)


def raise_first(results: Iterable[OpResult], who: str) -> None:
    """Raise what the first failed operation means. ``who``: "container C"."""
    for result in results:
        if not result.errno:
            continue
        where = f"{title(result.op.key)} of {who}"
        if result.errno == errno.EEXIST and result.op.key[0] == "link":
            link = result.op.want
            inside = f" or {link.peer.name} in the pod" if isinstance(link, Link) and link.peer else ""
            raise InvalidInput(f"interface {result.op.key[1]}{inside} exists already: {result.error}", where)
        if result.errno == errno.EOPNOTSUPP and isinstance(result.op.want, Link) and result.op.have is None:
            kind = result.op.want.kind
            raise InvalidInput(f"this kernel makes no {kind} links", where, f"load its module for {kind}")
        if result.errno in (errno.ENODEV, errno.EAGAIN, errno.EBUSY, errno.ENOBUFS):
            raise Unavailable(result.error, where, "try again")
        raise OSError(result.errno, f"{where}: {result.error}")
