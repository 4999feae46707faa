"""Putting the executable and a network's configuration where a container runtime looks for them.

What was written is recorded (``installed.py``): only what is in the record and still the same is ever
replaced or removed; anything else is somebody else's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from podway import durable
from podway.cni.attached import require_none
from podway.cni.config import NAME
from podway.cni.installed import Record, Removed, digest, digest_of
from podway.model.errors import Conflict, InvalidInput

EXECUTABLE = "podway-cni"
CAPABILITIES = (
    "portMappings",
    "bandwidth",
    "ips",
    "ipRanges",
    "mac",
    "dns",
    "aliases",
    "io.kubernetes.cri.pod-annotations",
)
_PREFIX = "10-podway-"  # runtimes take the first in order of names
_COMPILED = Path(__file__).parent / "shim" / EXECUTABLE
_SCRIPT = """#!{python} -I
import sys
from podway.cni.shim import main
sys.exit(main())
"""


def conflist(network: str, socket: str, fallback: list[str]) -> bytes:
    """The configuration list of a network: one plugin, which does the work of a whole chain.

    cniVersion is 1.0.0 because containerd 1.6 refuses a plain 1.1.0; newer runtimes take cniVersions."""
    plugin = {
        "type": EXECUTABLE,
        "network": network,
        "socket": socket,
        "fallback": fallback,
        "capabilities": dict.fromkeys(CAPABILITIES, True),
    }
    whole = {
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": network,
        "plugins": [plugin],
    }
    return json.dumps(whole, indent=2).encode() + b"\n"


def fallback_command(node: str, state_dir: str, store: str) -> list[str]:
    """argv that carries a call out without the agent; absolute, as the runtime starts it from anywhere."""
    scheme, colon, path = store.partition(":")
    if scheme == "sqlite" and colon:
        store = f"sqlite:{os.path.abspath(path)}"
    state_dir = os.path.abspath(state_dir)
    python = [sys.executable, "-I", "-m", "podway.cni.inprocess"]
    return [*python, "--node", node, "--state-dir", state_dir, "--store", store]


def install(bin_dir: Path, conf_dir: Path, network: str, socket: str, fallback: list[str]) -> list[Path]:
    """Write executable and configuration; the paths that had to change (none when run again).

    Raises Conflict when a file in the way is not one that Podway wrote, InvalidInput for a name or path
    that can't work; nothing is changed then."""
    if not NAME.fullmatch(network):
        raise InvalidInput(f"{network!r} is not a network name", fix="letters, digits, _ . -")
    socket = os.path.abspath(socket)
    if len(os.fsencode(socket)) > 107:  # struct sockaddr_un, unix(7)
        raise InvalidInput("the socket's path is longer than 107 bytes", socket, "choose a shorter --socket")
    bin_dir, conf_dir = bin_dir.absolute(), conf_dir.absolute()
    wanted = {
        bin_dir / EXECUTABLE: (executable(), 0o755),
        conf_dir / conflist_name(network): (conflist(network, socket, fallback), 0o644),
    }
    record = Record.read(bin_dir)
    changed = [path for path, (data, _) in wanted.items() if digest_of(path) != digest(data)]
    for path in changed:
        if record.is_foreign(path):
            raise Conflict("a file that Podway did not write is in the way", str(path), "move it aside")
    for directory in (bin_dir, conf_dir):
        directory.mkdir(parents=True, exist_ok=True)
    record.enter({path: data for path, (data, _) in wanted.items()})
    for path in changed:
        durable.replace(path, *wanted[path])
    return changed


def require_unused(bin_dir: Path, conf_dir: Path, network: str = "") -> None:
    """Raise Conflict while pods are attached by what ``remove`` would remove."""
    for path in _conflists(Record.read(bin_dir.absolute()), conf_dir.absolute(), network):
        require_none(path, network=path.stem.removeprefix(_PREFIX))


def remove(bin_dir: Path, conf_dir: Path, network: str = "") -> Removed:
    """Remove the configuration of ``network`` ("" = all in ``conf_dir``); the executable after the last."""
    bin_dir, conf_dir = bin_dir.absolute(), conf_dir.absolute()
    record, done = Record.read(bin_dir), Removed([], [], [])
    for path in _conflists(record, conf_dir, network):
        record.remove(path, done)
    if not any(path.suffix == ".conflist" for path in record.paths()):
        record.remove(bin_dir / EXECUTABLE, done)
    record.save()
    return done


def _conflists(record: Record, conf_dir: Path, network: str) -> list[Path]:
    confs = [path for path in record.paths() if path.parent == conf_dir and path.suffix == ".conflist"]
    return [path for path in confs if network in ("", path.stem.removeprefix(_PREFIX))]


def installed(bin_dir: Path) -> list[Path]:
    """The configurations, and the settings of drop-ins, that stand as ``install`` with this ``bin_dir`` wrote
    them."""
    record = Record.read(bin_dir)
    telling = (path for path in sorted(record.paths()) if path.suffix in (".conflist", ".json"))
    return [path for path in telling if record.is_own(path)]


def replaced(bin_dir: Path) -> tuple[int, list[Path]]:
    """How many executables ``install`` wrote there, and those that are others' now, or gone.

    Raises Conflict when the record can't be read."""
    record = Record.read(bin_dir)
    executables = [path for path in sorted(record.paths()) if not path.suffix]
    return len(executables), [path for path in executables if not record.is_own(path)]


def conflist_name(network: str) -> str:
    """The file name of a network's configuration."""
    return f"{_PREFIX}{network}.conflist"


def is_compiled() -> bool:
    """Whether the static program is there; without, a script is installed that does the same."""
    return os.access(_COMPILED, os.X_OK)


def executable() -> bytes:
    """The file that is installed, under whatever name."""
    if is_compiled():
        return _COMPILED.read_bytes()
    return _SCRIPT.format(python=sys.executable).encode()
