"""``podway cni install --drop-in``: beside others or in their place, and back."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from dropin_lab import Lab

from podway import durable
from podway.cli.cni import cni
from podway.cni import dropin, install_dropin
from podway.cni.installed import RECORD, aside
from podway.cni.shim import SETTINGS
from podway.model.errors import Conflict, InvalidInput


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """A directory with a foreign bridge, and one that no name of Podway's is in the way of."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    for name in ("bridge", "unknown"):
        (directory / name).write_text(f"foreign {name}")
        (directory / name).chmod(0o755)
    return directory


def install(bin_dir: Path, names: list[str], replace: bool = False) -> list[Path]:
    """With an agent at a socket of the test's."""
    return install_dropin.install(bin_dir, names, "/run/x.sock", ["/bin/false"], replace)


def test_nothing_foreign_is_replaced_unasked(bin_dir: Path) -> None:
    """Nor anything else written then."""
    with pytest.raises(Conflict, match="bridge"):
        install(bin_dir, ["loopback", "bridge"])
    assert sorted(os.listdir(bin_dir)) == ["bridge", "unknown"]
    install(bin_dir, ["loopback"])
    assert json.loads((bin_dir / SETTINGS).read_bytes()) == {
        "socket": "/run/x.sock",
        "fallback": ["/bin/false"],
    }


def test_what_is_replaced_comes_back(bin_dir: Path) -> None:
    """Content and mode; nothing of Podway's stays."""
    names = list(dropin.NAMES)
    install(bin_dir, names, replace=True)
    assert install(bin_dir, names) == []
    assert (bin_dir / "bridge").read_bytes() == (bin_dir / "loopback").read_bytes()
    done = install_dropin.remove(bin_dir)
    assert done.restored == [bin_dir / "bridge"] and not done.left
    assert sorted(os.listdir(bin_dir)) == ["bridge", "unknown"]
    assert (bin_dir / "bridge").read_text() == "foreign bridge"
    assert os.access(bin_dir / "bridge", os.X_OK)


def test_an_upgrade_of_the_others_is_left_and_may_be_replaced_again(bin_dir: Path) -> None:
    """As a distribution's package manager writes it; what comes back is the newer one."""
    install(bin_dir, ["bridge"], replace=True)
    (bin_dir / "bridge").unlink()
    (bin_dir / "bridge").write_text("newer")
    with pytest.raises(Conflict):
        install(bin_dir, ["bridge"])
    install(bin_dir, ["bridge"], replace=True)
    assert install_dropin.remove(bin_dir).restored == [bin_dir / "bridge"]
    assert (bin_dir / "bridge").read_text() == "newer"


def test_an_installation_cut_short_is_undone_or_repeated(
    bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the record was written, before anything was replaced."""
    real = durable.replace

    def cut(path: Path, data: bytes, mode: int) -> None:
        if path.name != RECORD:
            raise KeyboardInterrupt
        real(path, data, mode)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            install(bin_dir, ["bridge"], replace=True)
    assert (bin_dir / "bridge").read_text() == "foreign bridge" == aside(bin_dir / "bridge").read_text()
    install(bin_dir, ["bridge"], replace=True)
    install_dropin.remove(bin_dir)
    assert sorted(os.listdir(bin_dir)) == ["bridge", "unknown"]


def test_names_are_those_that_there_are() -> None:
    """Others are named, with what there is."""
    assert install_dropin.chosen("bridge, loopback") == ["bridge", "loopback"]
    with pytest.raises(InvalidInput, match="brige"):
        install_dropin.chosen("bridge,brige")


def test_the_command(bin_dir: Path, tmp_path: Path) -> None:
    """Refuses without --replace where nobody can be asked; removes what it installed."""
    places = ["--bin-dir", str(bin_dir), "--conf-dir", str(tmp_path / "net.d")]
    run = CliRunner()
    store = tmp_path / "lib" / "store.db"
    more = ["--store", f"sqlite:{store}"]
    refused = run.invoke(cni, ["install", "--drop-in", "bridge", *places, *more])
    assert isinstance(refused.exception, Conflict)
    done = run.invoke(cni, ["install", *places, *more, "--replace", "--drop-in"])
    assert store.exists()
    assert done.exit_code == 0, done.output
    assert f"installed {bin_dir}/host-local" in done.output
    done = run.invoke(cni, ["remove", *places])
    assert f"put back {bin_dir}/bridge" in done.output
    assert sorted(os.listdir(bin_dir)) == ["bridge", "unknown"]


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_it_asks(bin_dir: Path, tmp_path: Path, answer: str) -> None:
    """Before it puts a foreign file aside; no is no."""
    ours, theirs = pty.openpty()
    try:
        store = f"sqlite:{tmp_path}/store.db"
        command = ["cni", "install", "--drop-in", "bridge,ptp", "--bin-dir", str(bin_dir), "--store", store]
        process = subprocess.Popen(
            [sys.executable, "-m", "podway", *command], stdin=theirs, stdout=theirs, stderr=theirs
        )
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(ours, 1000)
        assert b"has others' bridge: put them aside" in asked
        os.write(ours, f"{answer}\n".encode())
        assert (process.wait(30) == 0) == (answer == "y")
    finally:
        os.close(ours)
        os.close(theirs)
    assert ((bin_dir / "bridge").read_bytes() == b"foreign bridge") == (answer == "n")
    assert (bin_dir / "ptp").exists() == (answer == "y")


def test_pods_go_before_what_they_came_by(lab: Lab, pod: str, bin_dir: Path) -> None:
    """What comes back could not free what Podway made: refused, naming the pod, with nothing changed."""
    lab.podway("cni", "install", "--drop-in", "--replace", "--bin-dir", str(bin_dir))
    ranges = [[{"subnet": "10.88.0.0/16"}]]
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": ranges}
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0", "ipam": ipam}
    lab.call("ADD", conf, pod)
    run, there = CliRunner(), sorted(os.listdir(bin_dir))
    remove = ["remove", "--bin-dir", str(bin_dir), "--conf-dir", str(bin_dir)]
    refused = run.invoke(cni, remove)
    assert isinstance(refused.exception, Conflict) and f"{pod[:12]} (network net)" in str(refused.exception)
    assert sorted(os.listdir(bin_dir)) == there
    assert run.invoke(cni, [*remove, "--drop-in", "ptp"]).exit_code == 0  # by which none came
    assert run.invoke(cni, [*remove, "--drop-in", "host-local", "--force"]).exit_code == 0
    lab.call("DEL", conf, pod)
    assert run.invoke(cni, remove).exit_code == 0
    assert sorted(os.listdir(bin_dir)) == ["bridge", "unknown"]


def test_loopback_comes_with_a_network_where_nobody_elses_is(bin_dir: Path) -> None:
    """containerd executes it for each pod."""
    socket, fallback = "/run/x.sock", ["/bin/false"]
    (bin_dir / "loopback").write_text("foreign")
    assert install_dropin.complete(bin_dir, socket, fallback) == []
    (bin_dir / "loopback").unlink()
    assert bin_dir / "loopback" in install_dropin.complete(bin_dir, socket, fallback)
    assert install_dropin.complete(bin_dir, socket, fallback) == []
