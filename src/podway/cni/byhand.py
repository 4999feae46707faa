"""A network namespace attached by hand: the installed configuration carried out as a runtime would."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from podway.cni.install import conflist_name
from podway.model.errors import InvalidInput, Unavailable

NAMES = Path("/run/netns")


class Places(NamedTuple):
    """Directories: executables, configurations, and where results of ADD are kept."""

    executables: Path
    configurations: Path
    results: Path = Path("/run/podway/byhand")


def carry_out(command: str, network: str, namespace: str, interface: str, ip: str, places: Places) -> str:
    """ADD, CHECK or DEL of a namespace, a name of ``ip netns`` or a path; the result of ADD.

    Raises InvalidInput, and Unavailable with the plugin's own words."""
    path = namespace if "/" in namespace else str(NAMES / namespace)
    if command != "DEL" and not os.path.exists(path):
        raise InvalidInput("there is no such network namespace", path, f"ip netns add {namespace}")
    container = path.strip("/").replace("/", "-")
    kept = places.results / f"{network}-{container}-{interface}.json"
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": path,
        "CNI_IFNAME": interface,
        "CNI_PATH": str(places.executables),
        "CNI_ARGS": "IgnoreUnknown=1" + (f";IP={ip}" if ip else ""),
    }
    result = kept.read_text() if command != "ADD" and kept.exists() else ""
    for conf in _plugins(places.configurations / conflist_name(network), command):
        more = {"prevResult": json.loads(result)} if result else {}
        result = _execute(places.executables / conf["type"], conf | more, environment) or result
    if command == "ADD":
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(result)
    elif command == "DEL":
        kept.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are kept, or none ever was
            places.results.rmdir()
    return result


def _plugins(path: Path, command: str) -> list[dict[str, Any]]:
    """The configurations of a list's plugins, in the order that the command asks for."""
    try:
        whole = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        what = f"the configuration can't be read: {words}"
        raise InvalidInput(what, str(path), "podway cni install --network NETWORK") from None
    head = {"cniVersion": whole["cniVersion"], "name": whole["name"]}
    plugins = [plugin | head for plugin in whole["plugins"]]
    return plugins[::-1] if command == "DEL" else plugins


def _execute(executable: Path, conf: dict[str, Any], environment: dict[str, str]) -> str:
    text = json.dumps(conf)
    try:
        done = subprocess.run([executable], input=text, env=environment, capture_output=True, text=True)
    except OSError as error:
        words = error.strerror or str(error)
        raise InvalidInput(f"can't be executed: {words}", str(executable), "podway cni install") from None
    if done.returncode == 0:
        return done.stdout
    try:
        told = json.loads(done.stdout)
        words = ": ".join(filter(None, (told.get("msg"), told.get("details"))))
    except ValueError:
        words = done.stderr.strip() or f"exit code {done.returncode}"
    raise Unavailable(words, executable.name)
