"""The names of the reference plugins, served by the same engine. Read this, then ``frame.py``.

A call comes by the executable's name (argv[0]); ``NAMES`` has each one's module, which has a ``PLUGIN``:

* ``frame.Maker``: makes an interface in the pod and asks an IPAM plugin for its addresses (bridge).
  ``inner.maker`` is one whose link stands in the pod alone, with nothing on the node (macvlan).
* ``frame.Chained``: comes after others and passes their result on (portmap, tuning).
* an object of its own with the same five methods, where neither fits (loopback, host-local).

To add a name:

1. ``model/dropin.py``: a frozen ``Want`` with ``tag="NAME"``: what one ADD made, all that DEL needs later;
   add it to ``AnyWant``. Bare values (addresses, link names), no JSON of the configuration.
2. ``plan/dropin/NAME.py``: a pure function ``(Piece, Want) → objects`` for the node, one for the pod; enter
   both in ``plan/dropin/__init__.py``. Objects are those of ``model/objects.py``; extend the codec in
   ``kernel/netlink`` only for what it can't say yet. That alone gives repair, conflicts, explain, uninstall.
3. ``cni/dropin/NAME.py``: ``want(ask, …)`` reads ``ask.section`` (any case, null is absent, every error names
   its key: ``reader.Section``) and returns the Want; ``PLUGIN = Chained("NAME", want)`` or
   ``Maker("NAME", want, result)``. No kernel, no file, no clock in it.
4. Enter the module in ``NAMES``; tests in ``tests/dropin/test_dropin_NAME.py``: unit for ``want`` and the
   plan, end to end with ``dropin_lab`` (real executable, agent and in-process, namespaces).
5. A row in the table of ``docs/cni.md`` and of ``docs/features.md``.

What the frame does for you: version and names, prevResult in every version, the journal row before the
kernel is touched, both sides programmed, everything undone when one fails, DEL with an empty namespace, twice
or without prevResult, GC by configuration and plugin, CHECK of all objects, STATUS, IPAM ours and foreign.

What must look at the machine before the value is known (the old value of a sysctl that DEL restores, a MAC)
goes into ``prepare(engine, ask, piece)``, which runs on the writer thread and returns the piece to journal.
What a removal puts back inside a pod that lives on goes into ``plan.dropin.as_found``.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from podway.cni import config, result
from podway.cni.answer import document, failure
from podway.cni.dropin.ask import Ask
from podway.cni.errors import ENVIRONMENT, CniError
from podway.cni.protocol import NEWEST, VERSIONS, Answer, Call, Result
from podway.cni.steps import Steps

if TYPE_CHECKING:
    from podway.cni.dropin.frame import Plugin

#: executable's name → module of this package
NAMES = {
    "bandwidth": "bandwidth",
    "bridge": "bridge",
    "dhcp": "dhcp",
    "dummy": "dummy",
    "firewall": "firewall",
    "host-device": "host_device",
    "host-local": "host_local",
    "ipvlan": "ipvlan",
    "loopback": "loopback",
    "macvlan": "macvlan",
    "portmap": "portmap",
    "ptp": "ptp",
    "sbr": "sbr",
    "static": "static",
    "tap": "tap",
    "tuning": "tuning",
    "vlan": "vlan",
    "vrf": "vrf",
}
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
_OF_NOBODY = ("GC", "STATUS")  # about no container


def name_of(call: Call) -> str:
    """The drop-in plugin that a call is for, "" for the cluster plugin."""
    name = os.path.basename(call.argv0)
    return name if name in NAMES else ""


def load(name: str) -> Plugin:
    """The plugin of a name, imported when it is first asked for."""
    plugin: Plugin = importlib.import_module(f"{__name__}.{NAMES[name]}").PLUGIN
    return plugin


def steps(call: Call) -> Steps[Answer]:
    """One call, to be driven; never raises: whatever goes wrong is an error document and exit code 1."""
    version, command = NEWEST, call.env.get("CNI_COMMAND", "")
    try:
        if command not in COMMANDS:
            known = ", ".join((*COMMANDS, "VERSION"))
            raise CniError(ENVIRONMENT, f"CNI_COMMAND: {command!r} is none of {known}")
        if not call.env.get("CNI_PATH"):
            raise CniError(ENVIRONMENT, "CNI_PATH is missing")
        section = config.decode(call.stdin)
        if section.raw("cniVersion") in VERSIONS:
            version = section.text("cniVersion")
        conf = config.load(section, command)
        if config.collects_nothing(section, command):
            return Answer(0)
        who = None
        if command not in _OF_NOBODY:
            who = config.identity(call, namespace_required=command != "DEL")
        plugin = load(name_of(call))
        before = None if command == "DEL" else result.previous(section, conf.version)
        work = getattr(plugin, {"ADD": "add", "DEL": "delete", "GC": "collect"}.get(command, command.lower()))
        output: Result | None = yield from work(Ask(call, conf, who, before))
        if output is None:
            return Answer(0)
        return document(0, result.trimmed(result.encode(output, conf.version), conf.version))
    except Exception as error:
        return failure(error, version, command)
