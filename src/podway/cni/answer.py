"""What every plugin's answer is made of: documents, failures, the pod's namespace of a call."""

from __future__ import annotations

import fcntl
import os

import msgspec

from podway.cni.errors import NAMESPACE, NOT_READY, VERSION, CniError, describe
from podway.cni.protocol import NEWEST, Answer, Call

NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
CLONE_NEWNET = 0x40000000  # linux/sched.h


def document(exit_code: int, value: dict[str, object]) -> Answer:
    """An answer that prints one JSON document."""
    return Answer(exit_code, msgspec.json.encode(value) + b"\n")


def failure(error: BaseException, version: str = NEWEST, command: str = "") -> Answer:
    """The error document of an exception; for STATUS it is code 50, whatever the cause.

    Not where the cniVersion has no STATUS."""
    code, msg, details = describe(error)
    if command == "STATUS" and code != VERSION:
        code = NOT_READY
    told: dict[str, object] = {"cniVersion": version, "code": code, "msg": _plain(msg)}
    if details:
        told["details"] = _plain(details)
    return document(1, told)


def _plain(text: str) -> str:
    """Text that JSON can carry: a lone surrogate, of a name that is no UTF-8, becomes "?"."""
    return text.encode("utf-8", "replace").decode()


def pod_namespace(call: Call, own_too: bool = False) -> int:
    """The descriptor of the pod's network namespace. Raises CniError 8 with what is wrong with CNI_NETNS.

    ``own_too``: the caller's own may be meant."""
    path = call.env.get("CNI_NETNS", "")
    if call.pod_fd < 0:
        reason = os.strerror(call.pod_errno) if call.pod_errno else "the caller did not pass it"
        raise CniError(NAMESPACE, f"CNI_NETNS: {path} can't be opened: {reason}")
    try:
        kind = fcntl.ioctl(call.pod_fd, NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != CLONE_NEWNET:
        raise CniError(NAMESPACE, f"CNI_NETNS: {path} is not a network namespace")
    if not own_too and call.caller_fd >= 0 and os.path.sameopenfile(call.caller_fd, call.pod_fd):
        raise CniError(NAMESPACE, f"CNI_NETNS: {path} is the node's own namespace, not a pod's")
    return call.pod_fd
