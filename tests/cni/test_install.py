"""Installing executable and configuration: atomic, repeatable, and taken away to the last file.

Files that Podway did not write, or that were changed since, are never touched.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from podway.cli.cni import cni
from podway.cni import install as installer
from podway.model.errors import Conflict, InvalidInput

FALLBACK = ["/usr/bin/python3", "-I", "-m", "podway.cni.inprocess"]


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    return tmp_path / "bin"


@pytest.fixture
def conf_dir(tmp_path: Path) -> Path:
    return tmp_path / "net.d"


def install(bin_dir: Path, conf_dir: Path, network: str = "pods", socket: str = "/run/s") -> list[Path]:
    return installer.install(bin_dir, conf_dir, network, socket, FALLBACK)


def every_file(*directories: Path) -> list[str]:
    return sorted(name for directory in directories if directory.exists() for name in os.listdir(directory))


def test_what_is_installed(bin_dir: Path, conf_dir: Path) -> None:
    changed = install(bin_dir, conf_dir)
    executable, conflist = bin_dir / "podway-cni", conf_dir / "10-podway-pods.conflist"
    assert changed == [executable, conflist]
    assert stat.S_IMODE(executable.stat().st_mode) == 0o755
    assert stat.S_IMODE(conflist.stat().st_mode) == 0o644
    found = json.loads(conflist.read_bytes())
    assert found["cniVersion"] == "1.0.0"  # containerd 1.6 refuses a plain 1.1.0
    assert found["cniVersions"] == ["0.4.0", "1.0.0", "1.1.0"]
    assert found["name"] == "pods"
    (plugin,) = found["plugins"]
    assert (plugin["type"], plugin["network"]) == ("podway-cni", "pods")
    assert (plugin["socket"], plugin["fallback"]) == ("/run/s", FALLBACK)
    assert all(plugin["capabilities"].values()) and "portMappings" in plugin["capabilities"]
    assert every_file(bin_dir, conf_dir) == [".podway-cni.installed", "10-podway-pods.conflist", "podway-cni"]


def test_again_changes_nothing_and_remove_leaves_nothing(bin_dir: Path, conf_dir: Path) -> None:
    changed = install(bin_dir, conf_dir)
    stamps = [path.stat().st_ino for path in changed]
    assert install(bin_dir, conf_dir) == []
    assert [path.stat().st_ino for path in changed] == stamps
    removed, left, _ = installer.remove(bin_dir, conf_dir)
    assert (set(removed), left) == (set(changed), [])
    assert every_file(bin_dir, conf_dir) == []
    assert installer.remove(bin_dir, conf_dir) == ([], [], [])


def test_a_changed_option_replaces_the_configuration(bin_dir: Path, conf_dir: Path) -> None:
    install(bin_dir, conf_dir)
    assert install(bin_dir, conf_dir, socket="/run/t") == [conf_dir / "10-podway-pods.conflist"]
    assert installer.remove(bin_dir, conf_dir)[1] == []


def test_the_executable_stays_until_the_last_network(bin_dir: Path, conf_dir: Path) -> None:
    install(bin_dir, conf_dir, "blue")
    install(bin_dir, conf_dir, "red")
    removed, _, _ = installer.remove(bin_dir, conf_dir, "blue")
    assert removed == [conf_dir / "10-podway-blue.conflist"]
    assert installer.remove(bin_dir, conf_dir, "blue") == ([], [], [])
    assert (bin_dir / "podway-cni").exists()
    installer.remove(bin_dir, conf_dir, "red")
    assert every_file(bin_dir, conf_dir) == []


@pytest.mark.parametrize("name", ["bin/podway-cni", "net.d/10-podway-pods.conflist"])
def test_a_foreign_file_is_neither_replaced_nor_removed(
    tmp_path: Path, bin_dir: Path, conf_dir: Path, name: str
) -> None:
    foreign = tmp_path / name
    foreign.parent.mkdir()
    foreign.write_text("mine")
    with pytest.raises(Conflict) as caught:
        install(bin_dir, conf_dir)
    assert caught.value.where == str(foreign)
    assert every_file(bin_dir, conf_dir) == [foreign.name]
    installer.remove(bin_dir, conf_dir)
    assert foreign.read_text() == "mine"


def test_a_file_changed_since_is_left_and_named(bin_dir: Path, conf_dir: Path) -> None:
    _, conflist = install(bin_dir, conf_dir)
    conflist.write_text("edited")
    with pytest.raises(Conflict):
        install(bin_dir, conf_dir)
    removed, left, _ = installer.remove(bin_dir, conf_dir)
    assert (removed, left) == ([bin_dir / "podway-cni"], [conflist])
    assert conflist.read_text() == "edited"


def test_an_installation_that_was_cut_short_is_repeated(
    bin_dir: Path, conf_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(bin_dir, conf_dir)
    real, calls = os.rename, []

    def rename(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) > 1:
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        install(bin_dir, conf_dir, socket="/run/t")
    monkeypatch.undo()
    assert every_file(bin_dir, conf_dir) == [".podway-cni.installed", "10-podway-pods.conflist", "podway-cni"]
    assert install(bin_dir, conf_dir, socket="/run/u") == [conf_dir / "10-podway-pods.conflist"]


def test_without_a_compiled_executable_it_is_the_script(
    bin_dir: Path, conf_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installer, "_COMPILED", tmp_path / "none")
    install(bin_dir, conf_dir)
    done = subprocess.run(
        [bin_dir / "podway-cni"], input=b"{}", env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["cniVersion"] == "1.1.0"


@pytest.mark.parametrize(("network", "socket"), [("../x", "/s"), ("", "/s"), ("pods", "/" + "x" * 107)])
def test_what_can_not_work_is_refused(bin_dir: Path, conf_dir: Path, network: str, socket: str) -> None:
    with pytest.raises(InvalidInput):
        install(bin_dir, conf_dir, network, socket)
    assert every_file(bin_dir, conf_dir) == []


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    where = ["--bin-dir", "bin", "--conf-dir", "net.d"]
    node = ["--node", "n1", "--state-dir", "state", "--store", "sqlite:store.db"]
    done = CliRunner().invoke(cni, ["install", *where, "--network", "pods", *node])
    assert done.exit_code == 0, done.output
    assert f"installed {tmp_path}/bin/podway-cni" in done.output
    plugin = json.loads((tmp_path / "net.d" / "10-podway-pods.conflist").read_bytes())["plugins"][0]
    assert plugin["socket"] == "/run/podway/n1/cni.sock"
    assert plugin["fallback"] == [
        *[sys.executable, "-I", "-m", "podway.cni.inprocess", "--node", "n1"],
        *["--state-dir", f"{tmp_path}/state", "--store", f"sqlite:{tmp_path}/store.db"],
    ]
    assert (
        "nothing to change" in CliRunner().invoke(cni, ["install", *where, "--network", "pods", *node]).output
    )
    done = CliRunner().invoke(cni, ["remove", *where])
    assert f"removed {tmp_path}/net.d/10-podway-pods.conflist" in done.output
    assert "nothing to remove" in CliRunner().invoke(cni, ["remove", *where]).output
