"""Two images without a registry: a static ``pause`` and busybox, as docker-archive files."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

PAUSE = "podway.test/pause:1"
BUSYBOX = "podway.test/busybox:1"
_PAUSE_SOURCE = """
#include <signal.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); for (;;) pause(); }
"""
# Answers every request with the address that the server saw.
_SEEN = '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%s\\n" "$REMOTE_ADDR"\n'
_APPLETS = ("sh", "httpd", "wget", "ip", "ping", "sleep", "cat", "nc", "ls")


def pause(directory: Path) -> Path:
    """A docker-archive of a static program that only waits for its end."""
    source = directory / "pause.c"
    source.write_text(_PAUSE_SOURCE)
    subprocess.run(["cc", "-static", "-Os", "-o", directory / "pause", source], check=True)
    return _archive(directory / "pause.tar", PAUSE, {"pause": (directory / "pause").read_bytes()}, ["/pause"])


def busybox(directory: Path) -> Path:
    """A docker-archive of busybox, its links, and a page that tells the client's address."""
    found = shutil.which("busybox")
    assert found is not None, "busybox-static is missing: make setup-test installs it"
    files = {"bin/busybox": Path(found).read_bytes(), "www/cgi-bin/seen": _SEEN.encode()}
    links = {f"bin/{name}": "busybox" for name in _APPLETS}
    return _archive(directory / "busybox.tar", BUSYBOX, files, ["/bin/sh"], links)


def _layer(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for name in ("tmp", "proc", "sys", "dev", "etc"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
    return buffer.getvalue()


def _archive(
    path: Path, name: str, files: dict[str, bytes], command: list[str], links: dict[str, str] | None = None
) -> Path:
    layer = _layer(files, links or {})
    config = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Entrypoint": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, mode="w") as tar:
        members = {"layer.tar": layer, config_name: config, "manifest.json": json.dumps(manifest).encode()}
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return path


def _architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
