"""The plugin ``podway``: one Call in, one Answer out, for every command of the contract.

Nothing is printed and nothing is raised here; the engine does the work. The same code runs in the
agent and in the in-process command.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import msgspec

from podway.cni import config, result
from podway.cni.errors import ENVIRONMENT, NAMESPACE, NOT_READY, CniError, describe, wrong
from podway.cni.protocol import NEWEST, VERSIONS, Answer, Call
from podway.model.errors import PodwayError
from podway.node.requests import Engine

NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
CLONE_NEWNET = 0x40000000  # linux/sched.h


def handle(call: Call, engine: Engine) -> Answer:
    """Carry out one call. Never raises: whatever goes wrong is an error document and exit code 1."""
    version = NEWEST
    try:
        command = call.env.get("CNI_COMMAND", "")
        if command == "VERSION":
            return _document(0, versions(call.stdin))
        work = _COMMANDS.get(command)
        if work is None:
            known = ", ".join((*_COMMANDS, "VERSION"))
            raise CniError(ENVIRONMENT, f"CNI_COMMAND: {command!r} is none of {known}")
        section = config.decode(call.stdin)
        if section.raw("cniVersion") in VERSIONS:
            version = section.text("cniVersion")
        output = work(call, config.load(section, command), engine)
    except Exception as error:
        return failure(error, version)
    return _document(0, output) if output is not None else Answer(0)


def failure(error: BaseException, version: str = NEWEST, command: str = "") -> Answer:
    """The error document of an exception; for STATUS it is code 50, whatever the cause."""
    code, msg, details = describe(error)
    if command == "STATUS":
        code = NOT_READY
    document: dict[str, object] = {"cniVersion": version, "code": code, "msg": _plain(msg)}
    if details:
        document["details"] = _plain(details)
    return _document(1, document)


def versions(stdin: bytes) -> dict[str, object]:
    """The answer to VERSION; the executable gives the same bytes by itself."""
    return {"cniVersion": config.answer_version(stdin), "supportedVersions": VERSIONS}


def _document(exit_code: int, value: dict[str, object]) -> Answer:
    return Answer(exit_code, msgspec.json.encode(value) + b"\n")


def _plain(text: str) -> str:
    """Text that JSON can carry: a lone surrogate, of a name that is no UTF-8, becomes "?"."""
    return text.encode("utf-8", "replace").decode()


def _namespace(call: Call) -> int:
    """The descriptor of the pod's network namespace. Raises CniError 8 with what is wrong with CNI_NETNS."""
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
    if call.caller_fd >= 0 and os.path.sameopenfile(call.caller_fd, call.pod_fd):
        raise CniError(NAMESPACE, f"CNI_NETNS: {path} is the node's own namespace, not a pod's")
    return call.pod_fd


def _add(call: Call, conf: config.Conf, engine: Engine) -> dict[str, object]:
    who = config.identity(call, namespace_required=True)
    request = config.attach_request(call, conf, who)
    dns = config.dns(conf.section)
    before = result.previous(conf.section, conf.version)
    if before is not None:
        result.refuse_collision(before, request, conf.version)
    endpoint = engine.add(request, _namespace(call))
    made = result.of_endpoint(endpoint, request, dns)
    return result.encode(result.merge(before, made) if before else made, conf.version)


def _delete(call: Call, conf: config.Conf, engine: Engine) -> None:
    """Needs container and interface, and nothing else of what may be wrong or gone by now."""
    who = config.identity(call, namespace_required=False)
    engine.delete(who.container, who.ifname)


def _check(call: Call, conf: config.Conf, engine: Engine) -> None:
    who = config.identity(call, namespace_required=True)
    request = config.attach_request(call, conf, who)
    before = result.previous(conf.section, conf.version)
    if before is None:
        raise wrong("prevResult", "is missing; CHECK compares with it")
    ours = [index for index, one in enumerate(before.interfaces) if one.sandbox and one.name == who.ifname]
    addresses = tuple(ip.address for ip in before.ips if ip.interface is None or ip.interface in ours)
    if not addresses:
        raise wrong("prevResult", f"has no address of {who.ifname}")
    mac = next((before.interfaces[index].mac for index in ours), "").lower()
    engine.check(msgspec.structs.replace(request, mac=mac), _namespace(call), addresses)


def _collect(call: Call, conf: config.Conf, engine: Engine) -> None:
    engine.gc(conf.network, conf.name, config.valid_attachments(conf.section))


def _status(call: Call, conf: config.Conf, engine: Engine) -> None:
    try:
        engine.status(conf.network)
    except (PodwayError, OSError) as error:
        _, msg, details = describe(error)
        raise CniError(NOT_READY, msg, details) from error


_COMMANDS: dict[str, Callable[[Call, config.Conf, Engine], dict[str, object] | None]] = {
    "ADD": _add,
    "DEL": _delete,
    "CHECK": _check,
    "GC": _collect,
    "STATUS": _status,
}
