"""Attaching by hand: what is missing is named. (That it works: lab/test_two_machines.py.)"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podway.cni.byhand import Places, carry_out
from podway.model.errors import InvalidInput, Unavailable


def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "bin", tmp_path / "net.d", tmp_path / "results")


def install(tmp_path: Path, *scripts: str) -> None:
    """A list of plugins p0, p1, … that are these shell scripts."""
    for name in ("bin", "net.d"):
        (tmp_path / name).mkdir()
    plugins = []
    for number, script in enumerate(scripts):
        path = tmp_path / "bin" / f"p{number}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        plugins.append({"type": f"p{number}"})
    whole = {"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}
    (tmp_path / "net.d" / "10-podway-pods.conflist").write_text(json.dumps(whole))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such network namespace"):
        carry_out("ADD", "pods", "missing", "eth0", "", places(tmp_path))
    with pytest.raises(InvalidInput, match="podway cni install"):
        carry_out("ADD", "pods", "/proc/self/ns/net", "eth0", "", places(tmp_path))
    install(tmp_path, "exit 0")
    (tmp_path / "bin" / "p0").unlink()
    with pytest.raises(InvalidInput, match="can't be executed"):
        carry_out("ADD", "pods", "/proc/self/ns/net", "eth0", "", places(tmp_path))


def test_the_plugins_own_words(tmp_path: Path) -> None:
    install(tmp_path, """echo '{"code": 11, "msg": "not now", "details": "later"}'; exit 1""")
    with pytest.raises(Unavailable, match="not now: later"):
        carry_out("ADD", "pods", "/proc/self/ns/net", "eth0", "", places(tmp_path))


def test_a_chain_forwards_and_backwards(tmp_path: Path) -> None:
    """Results go from plugin to plugin, DEL gets that of ADD and goes the other way."""
    log = tmp_path / "log"
    scripts = [f"""echo $CNI_COMMAND {n} $(cat) >> {log}; echo '{{"from": {n}}}'""" for n in (0, 1)]
    install(tmp_path, *scripts)
    result = carry_out("ADD", "pods", "/proc/self/ns/net", "eth0", "192.0.2.9", places(tmp_path))
    assert json.loads(result) == {"from": 1}
    carry_out("DEL", "pods", "/proc/self/ns/net", "eth0", "", places(tmp_path))
    lines = log.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["ADD", "0"], ["ADD", "1"], ["DEL", "1"], ["DEL", "0"]]
    assert '"prevResult": {"from": 0}' in lines[1] and '"prevResult": {"from": 1}' in lines[2]
    assert not (tmp_path / "results").exists()
