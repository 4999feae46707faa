"""Pods whose namespace and link are gone though no DEL came: nothing of theirs can be made anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from podway.delta.differ import on_link
from podway.kernel import namespaces
from podway.model.objects import Link, Op
from podway.plan.fragments import Inputs


def link_of(op: Op) -> str:
    """The link that an operation's object stands on, "" for none."""
    value = op.want or op.have
    return on_link(value) if value else ""


def is_about(op: Op, links: Collection[str]) -> bool:
    """Whether an operation is about one of these links, or about what stands on it."""
    return (op.key[1] if op.key[0] == "link" else link_of(op)) in links


def opened(ops: Iterable[Op], inputs: Inputs) -> tuple[dict[str, int], dict[str, str]]:
    """Of pods whose link is to be made those that live, by name, with a descriptor of the namespace for the
    caller to close; and those that have vanished, by the link's name."""
    living: dict[str, int] = {}
    gone: dict[str, str] = {}
    for op in ops:
        if op.have is not None or not isinstance(op.want, Link) or not op.want.peer:
            continue
        name = op.want.peer.namespace
        if not name:
            continue
        pod = inputs.endpoints.get(name) or inputs.pieces[name]
        fd = namespaces.open_same(pod.namespace, pod.namespace_id)
        if fd is None:
            gone[op.want.name] = name
        else:
            living[name] = fd
    return living, gone
