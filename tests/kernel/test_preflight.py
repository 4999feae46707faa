"""What a machine lacks is said in one line with what to do, before anything was changed; ``doctor``
lists all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from podway.kernel import preflight
from podway.kernel.preflight import Check
from podway.model.errors import Unavailable

pytestmark = pytest.mark.kernel

PODWAY = [sys.executable, "-m", "podway"]
NOBODY = ["setpriv", "--reuid=65534", "--clear-groups", "--"]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_doctor_lists_every_check_as_text_and_json() -> None:
    done = _run(*PODWAY, "doctor")
    assert done.returncode == 0, done.stdout
    for name in ("root", "libnftables", "veth", "bridge", "nf_tables", "vxlan", "br_netfilter"):
        assert name in done.stdout
    for name in ("python", "ip ", "nsenter", "nft ", "podway-cni"):  # what setup sees to
        assert f"ok       {name}" in done.stdout
    silent = _run(*PODWAY, "doctor", "--socket", "/nowhere/cni.sock").stdout
    assert "warning  agent" in silent and "none answers" in silent
    found = json.loads(_run(*PODWAY, "doctor", "-o", "json").stdout)
    assert {one["verdict"] for one in found} <= {"ok", "warning"}


@pytest.fixture
def readable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place that user nobody may use."""
    place = tmp_path_factory.mktemp("nobody")
    for directory in (place, *list(place.parents)[:3]):
        if directory.is_relative_to("/tmp") and str(directory) != "/tmp":
            directory.chmod(0o777)
    return place


def test_without_root_one_line_says_so_and_nothing_is_made(readable: Path) -> None:
    state = readable / "state"
    run = ["--node", "a", "--store", f"sqlite:{readable}/store.db", "--state-dir", str(state)]
    done = _run(*NOBODY, *PODWAY, "agent", *run, "--socket", str(readable / "cni.sock"), "--listen", "")
    assert done.returncode == 1
    assert "running as user 65534" in done.stderr and "run as root" in done.stderr
    assert "Traceback" not in done.stderr
    doctor = _run(*NOBODY, *PODWAY, "doctor")
    assert doctor.returncode == 1 and doctor.stdout.startswith("failed   root")


def test_without_the_library_the_package_is_named() -> None:
    """The library is hidden in a mount namespace of the test's own."""
    hide = "for f in $(ldconfig -p | sed -n 's/.*libnftables.* => //p'); do mount --bind /dev/null $f; done"
    script = f'{hide}; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
    assert "failed   libnftables" in _run(*prefix, *PODWAY, "doctor").stdout
    done = _run(*prefix, *PODWAY, "lab", "up")
    assert done.returncode == 1, done.stdout
    assert "libnftables" in done.stderr and "apt install libnftables1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["veth", "bridge", "nf_tables"])
def test_a_kernel_without_something_is_refused_with_the_module(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mock: this kernel has all of them built in."""

    def failed() -> Check:
        return Check(name, "failed", f"the kernel makes no {name}", f"modprobe {name}")

    others = tuple(check for check in preflight.REQUIRED if check.__name__ != f"_{name}")
    monkeypatch.setattr(preflight, "REQUIRED", (*others, failed))
    with pytest.raises(Unavailable, match=f"modprobe {name}"):
        preflight.require()


def test_a_firewall_that_drops_what_is_forwarded_is_named(in_namespace: int) -> None:
    """Docker's policy for one: no rule of Podway's can accept what another's policy drops."""
    assert preflight._forwarding().verdict == "ok"
    for family in ("ip", "inet"):
        _run("nft", "add", "table", family, "filter")
        chain = "{ type filter hook forward priority 0; policy drop; }"
        _run("nft", "add", "chain", family, "filter", "FORWARD", chain)
    _run(
        "nft", "add", "chain", "ip", "filter", "INPUT", "{ type filter hook input priority 0; policy drop; }"
    )
    found = preflight._forwarding()
    assert found.verdict == "warning" and "firewall: manage" in found.fix
    for family in ("inet", "ip"):
        assert f"nftables {family} filter FORWARD drops it: its policy is drop" in found.detail


SETUP = Path(__file__).parents[2] / "scripts" / "setup"


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        ("ip", "*veth*", "the kernel makes no veth link: modprobe veth, or a kernel with CONFIG_VETH"),
        (
            "ip",
            "*bridge*",
            "the kernel makes no bridge link: modprobe bridge, or a kernel with CONFIG_BRIDGE",
        ),
        ("nft", "*", "the kernel has no nf_tables: modprobe nf_tables, or a kernel with CONFIG_NF_TABLES"),
    ],
)
def test_setup_refuses_a_kernel_before_it_changes_anything(
    tmp_path: Path, command: str, words: str, says: str
) -> None:
    """Commands that answer as on such a kernel, and a package manager that must not be called: in a copy
    of the tree that has no .venv yet."""
    _stub(tmp_path / command, f'case "$*" in {words}) echo "Error: Unknown device type." >&2; exit 2;; esac')
    _stub(tmp_path / "apt-get", f"touch {tmp_path}/called")
    copy = tmp_path / "tree" / "scripts"
    copy.mkdir(parents=True)
    shutil.copy(SETUP, copy)
    done = _run("env", f"PATH={tmp_path}:{os.environ['PATH']}", str(copy / "setup"))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"podway setup: {says}\n")
    assert not (tmp_path / "called").exists() and not (tmp_path / "tree" / ".venv").exists()


def _stub(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_setup_without_root_is_one_line() -> None:
    """With what to type instead."""
    done = _run("setpriv", "--reuid=65534", "--clear-groups", "--", "sh", "-c", SETUP.read_text(), str(SETUP))
    assert done.returncode == 1
    assert done.stderr == "podway setup: not root: run this as root (sudo make setup)\n"
