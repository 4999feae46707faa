"""The plugin ``podway``: one Call in, one Answer out, for every command of the contract.

Nothing is printed and nothing is raised here; the engine does the work. The same steps are driven by the
agent and by the in-process command, where a call by a drop-in name begins too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec

from podway.cni import config, dropin, result
from podway.cni.answer import document, failure, pod_namespace
from podway.cni.errors import ENVIRONMENT, NOT_READY, CniError, describe, wrong
from podway.cni.protocol import NEWEST, VERSIONS, Answer, Call
from podway.cni.steps import Steps, Work, looked
from podway.model.errors import PodwayError
from podway.node.requests import Engine


def steps(call: Call) -> Steps[Answer]:
    """One call by any name, to be driven; never raises: whatever goes wrong is an error document and exit
    code 1."""
    drop_in = dropin.name_of(call) and call.env.get("CNI_COMMAND") != "VERSION"
    return dropin.steps(call) if drop_in else _cluster_plugin(call)


def _cluster_plugin(call: Call) -> Steps[Answer]:
    version = NEWEST
    try:
        command = call.env.get("CNI_COMMAND", "")
        if command == "VERSION":
            return document(0, versions(call.stdin))
        work = _COMMANDS.get(command)
        if work is None:
            known = ", ".join((*_COMMANDS, "VERSION"))
            raise CniError(ENVIRONMENT, f"CNI_COMMAND: {command!r} is none of {known}")
        section = config.decode(call.stdin)
        if section.raw("cniVersion") in VERSIONS:
            version = section.text("cniVersion")
        conf = config.load(section, command)
        output: dict[str, object] | None = None
        do = functools.partial(work, call, conf)
        if command == "CHECK":
            yield from looked(do)
        elif not config.collects_nothing(section, command):
            output = yield Work(do)
    except Exception as error:
        return failure(error, version)
    return document(0, output) if output is not None else Answer(0)


def versions(stdin: bytes) -> dict[str, object]:
    """The answer to VERSION; the executable gives the same bytes by itself."""
    return {"cniVersion": config.answer_version(stdin), "supportedVersions": VERSIONS}


def _add(call: Call, conf: config.Conf, engine: Engine) -> dict[str, object]:
    who = config.identity(call, namespace_required=True)
    request = config.attach_request(call, conf, who)
    dns = config.dns(conf.section)
    before = result.previous(conf.section, conf.version)
    if before is not None:
        result.refuse_collision(before, request, conf.version)
    endpoint = engine.add(request, pod_namespace(call))
    made = result.of_endpoint(endpoint, request, dns)
    return result.encode(result.merge(before, made) if before else made, conf.version)


def _delete(call: Call, conf: config.Conf, engine: Engine) -> None:
    """Needs container and interface, and nothing else of what may be wrong or gone by now."""
    who = config.identity(call, namespace_required=False)
    engine.delete(who.container, who.ifname, call.pod_fd)


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
    engine.check(msgspec.structs.replace(request, mac=mac), pod_namespace(call), addresses)


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
