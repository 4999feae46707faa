"""``podway doctor`` names a BIRD that is missing or too old where networks want one, the agent up or down."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from podway.bird import process
from podway.kernel.preflight import Check
from podway.observe import bgp
from podway.store import Record, open_store


def _store(directory: Path, preset: str) -> str:
    url = f"sqlite:{directory}/store.db"
    with contextlib.closing(open_store(url, create=True)) as store:
        spec = {"preset": preset, "pools": [{"cidr": "10.244.0.0/16"}]}
        store.create(Record(kind="Network", name="pods", spec=msgspec.json.encode(spec)))
    return url


def _said(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Check:
    """The check where the command bird is ``script``, "" for none."""
    bird = directory / "bird"
    if script:
        bird.write_text(f"#!/bin/sh\n{script}\n")
        bird.chmod(0o755)
    monkeypatch.setattr(process.shutil, "which", lambda *_, **__: str(bird) if script else None)
    (found,) = bgp.checks(_store(directory, "calico-bgp"))
    return found


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _said(tmp_path, monkeypatch, "")
    assert found.verdict == "warning" and "not installed: network pods is carried by BGP" in found.detail
    assert "install the package bird2" in found.fix


def test_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _said(tmp_path, monkeypatch, "echo 'BIRD version 1.6.8'")
    assert found.verdict == "warning" and "too old: BIRD version 1.6.8" in found.detail
    assert "2.0.8 or later" in found.fix


def test_as_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _said(tmp_path, monkeypatch, "echo 'BIRD version 2.0.12'")
    assert found == Check("bird", "ok", "version 2.0.12")


def test_nothing_is_said_where_none_is_wanted(tmp_path: Path) -> None:
    assert list(bgp.checks(_store(tmp_path, "flannel-vxlan"))) == []
    assert list(bgp.checks(f"sqlite:{tmp_path}/none/store.db")) == []
