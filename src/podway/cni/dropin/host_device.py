"""``host-device``: a link of the node's, which is the pod's until DEL brings it back under its old name."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin import inner
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.paths import paths
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.cni.runtime import hardware_address
from podway.kernel.facade import is_owned
from podway.model.dropin import HostDevice, Piece
from podway.model.objects import Link
from podway.node.takeover import MOVED

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_PCI, _AUXILIARY, _DEVICES = "/sys/bus/pci/devices", "/sys/bus/auxiliary/devices", "/sys/devices/"
_USER_SPACE = ("vfio-pci", "uio_pci_generic", "igb_uio")  # drivers that leave the kernel no link
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
_KEYS = ("device", "hwaddr", "kernelpath", "pciBusID")


def want(ask: Ask, given: Result) -> HostDevice:
    """Raises CniError 7, naming the key; which device it is, ``prepare`` finds out."""
    section = ask.section
    name, path = section.text("device"), section.text("kernelpath")
    if name and (problem := config.ifname_problem(name)):
        raise wrong("device", f"{name!r} {problem}")
    if path and (not path.startswith(_DEVICES) or ".." in path.split("/")):
        raise wrong("kernelpath", f"{path!r} is not a path below {_DEVICES}")
    hardware_address(section)
    for where, key in ((section, "pciBusID"), (section.section("runtimeConfig"), "deviceID")):
        if (found := where.text(key)) and not _ID.fullmatch(found):
            raise wrong(where.at(key), f"{found!r} is no device's number")
    if not any(section.text(key) for key in _KEYS) and not section.section("runtimeConfig").text("deviceID"):
        raise wrong("device", f"is missing: give one of {', '.join(_KEYS)}")
    return HostDevice(routes=paths(given, ask.me.ifname))


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Find the device, if it isn't the pod's already, where its address is asked for."""
    known, value = engine.pieces.known.get(piece.id), piece.want
    assert isinstance(value, HostDevice)
    if known is not None and isinstance(known.want, HostDevice):
        value = msgspec.structs.replace(known.want, routes=value.routes)
        return msgspec.structs.replace(piece, want=value)
    key, found = _find(engine, ask)
    if found is None:
        return piece
    if is_owned(found):
        raise wrong(key, f"{found.name} is Podway's own")
    if found.name == "lo":
        raise wrong(key, "lo can't be a pod's")
    value = msgspec.structs.replace(
        value, device=found.name, kind=found.kind, alias=found.alias or "", mac=found.mac or ""
    )
    return msgspec.structs.replace(piece, want=value)


def _find(engine: NodeEngine, ask: Ask) -> tuple[str, Link | None]:
    """The key that says which, and the link; None where a driver in user space has it."""
    section, asked = ask.section, ask.section.section("runtimeConfig").text("deviceID")
    pci = section.text("pciBusID")
    if asked:
        if os.path.exists(f"{_AUXILIARY}/{asked}"):
            return "runtimeConfig.deviceID", _in_directory(engine, "deviceID", f"{_AUXILIARY}/{asked}")
        if not os.path.exists(f"{_PCI}/{asked}"):
            raise wrong("runtimeConfig.deviceID", f"there is no device {asked}")
        pci = asked
    if pci and _driver(pci) in _USER_SPACE:
        return "pciBusID", None
    if name := section.text("device"):
        return "device", _known(engine, "device", name)
    if mac := hardware_address(section):
        links = engine.kernel.rtnetlink.dump("link").values()
        same = [one for one in links if isinstance(one, Link) and one.mac == mac]
        if not same:
            raise wrong("hwaddr", f"no link of the node has the address {mac}")
        return "hwaddr", same[0]
    if path := section.text("kernelpath"):
        return "kernelpath", _in_directory(engine, "kernelpath", path)
    return "pciBusID", _in_directory(engine, "pciBusID", f"{_PCI}/{pci}")


def _driver(pci: str) -> str:
    try:
        return os.path.basename(os.readlink(f"{_PCI}/{pci}/driver"))
    except OSError:
        return ""


def _in_directory(engine: NodeEngine, key: str, path: str) -> Link:
    """The first link of a device; a virtio device's are one level below."""
    try:
        below = [path, *(f"{path}/{one}" for one in sorted(os.listdir(path)) if one.startswith("virtio"))]
    except OSError:
        raise wrong(key, f"there is no device {path}") from None
    for one in below:
        if os.path.isdir(f"{one}/net") and (names := sorted(os.listdir(f"{one}/net"))):
            return _known(engine, key, names[0])
    raise wrong(key, f"device {path} has no link on this node")


def _known(engine: NodeEngine, key: str, name: str) -> Link:
    found = engine.kernel.rtnetlink.get_link(name)
    if found is None:
        raise wrong(key, f"there is no link {name} on the node")
    return found


PLUGIN = inner.maker("host-device", want, MOVED, prepare)
