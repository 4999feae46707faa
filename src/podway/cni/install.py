"""Putting the executable and a network's configuration where a container runtime looks for them.

What was written is recorded, by content, in a file beside the executable. Only what is in the
record and still the same is ever replaced or removed; anything else is somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from podway.cni.config import NAME
from podway.model.errors import Conflict, InvalidInput

EXECUTABLE = "podway-cni"
RECORD = ".podway-cni.installed"
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
_COMPILED = Path(__file__).parent / "shim" / EXECUTABLE
_SCRIPT = """#!{python} -I
import sys
from podway.cni.shim import main
sys.exit(main())
"""

#: path → what Podway wrote there: the content before and after the last installation, so that one
#: which was cut short in between can be repeated
Record = dict[str, list[str]]


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
        bin_dir / EXECUTABLE: (_executable(), 0o755),
        conf_dir / conflist_name(network): (conflist(network, socket, fallback), 0o644),
    }
    record = _read_record(bin_dir)
    changed = [path for path, (data, _) in wanted.items() if _digest_of(path) != _digest(data)]
    for path in changed:
        if path.exists() and _digest_of(path) not in record.get(str(path), []):
            raise Conflict("a file that Podway did not write is in the way", str(path), "move it aside")
    for directory in (bin_dir, conf_dir):
        directory.mkdir(parents=True, exist_ok=True)
    for path, (data, _) in wanted.items():
        record[str(path)] = sorted({_digest_of(path), _digest(data)} - {""})
    if record != _read_record(bin_dir):
        _write(bin_dir / RECORD, _encode_record(record), 0o644)
    for path in changed:
        _write(path, *wanted[path])
    return changed


def remove(bin_dir: Path, conf_dir: Path, network: str = "") -> tuple[list[Path], list[Path]]:
    """Remove the configuration of ``network`` ("" = all in ``conf_dir``), and the executable after the last.

    (what was removed, what was left because it was changed since)."""
    bin_dir, conf_dir = bin_dir.absolute(), conf_dir.absolute()
    record = _read_record(bin_dir)
    confs = [Path(path) for path in record if Path(path).parent == conf_dir and path.endswith(".conflist")]
    if network:
        confs = [path for path in confs if path.name == conflist_name(network)]
    removed: list[Path] = []
    left: list[Path] = []
    for path in confs:
        _remove_own(path, record, removed, left)
    if not any(path.endswith(".conflist") for path in record):
        executable = bin_dir / EXECUTABLE
        if str(executable) in record:
            _remove_own(executable, record, removed, left)
    if record:
        _write(bin_dir / RECORD, _encode_record(record), 0o644)
    else:
        with suppress(FileNotFoundError):
            (bin_dir / RECORD).unlink()
    return removed, left


def installed(bin_dir: Path) -> list[Path]:
    """The configurations that stand as ``install`` with this ``bin_dir`` wrote them."""
    record = _read_record(bin_dir)
    return [Path(p) for p in sorted(record) if p.endswith(".conflist") and _digest_of(Path(p)) in record[p]]


def conflist_name(network: str) -> str:
    """The file name of a network's configuration: runtimes take the first in order of names."""
    return f"10-podway-{network}.conflist"


def _remove_own(path: Path, record: Record, removed: list[Path], left: list[Path]) -> None:
    found = _digest_of(path)
    if found in record.pop(str(path)):
        path.unlink()
        removed.append(path)
    elif found:
        left.append(path)


def is_compiled() -> bool:
    """Whether the static program is there; without, a script is installed that does the same."""
    return os.access(_COMPILED, os.X_OK)


def _executable() -> bytes:
    if is_compiled():
        return _COMPILED.read_bytes()
    return _SCRIPT.format(python=sys.executable).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(path: Path) -> str:
    """Of what is at ``path``; "" when nothing is."""
    try:
        return _digest(path.read_bytes())
    except FileNotFoundError:
        return ""


def _read_record(bin_dir: Path) -> Record:
    path = bin_dir / RECORD
    try:
        record = json.loads(path.read_bytes())
        return {str(name): list(digests) for name, digests in record["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Conflict("the record of installed files can't be read", str(path), "remove it") from None


def _encode_record(record: Record) -> bytes:
    return json.dumps({"version": 1, "files": record}, indent=2, sort_keys=True).encode() + b"\n"


def _write(path: Path, data: bytes, mode: int) -> None:
    """Atomic and durable: whoever looks sees the old file or the new one, a crash leaves one of them."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
