"""Two images without a registry: a static ``pause`` and busybox with two servers, as docker-archive files."""

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
# A name server whose every name has one IPv4 address: the asker's, as the server saw it (RFC 1035, 4.1).
_NAMES_SOURCE = """
#include <arpa/inet.h>
#include <string.h>
int main(void) {
    unsigned char m[512 + 16];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(53)};
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(s, (void *)&a, sizeof a)) return 1;
    for (;;) {
        socklen_t l = sizeof a;
        int n = recvfrom(s, m, 512, 0, (void *)&a, &l);
        if (n < 17) continue;
        int type_a = m[n - 3] == 1;
        m[2] = 0x81; m[3] = 0x80; m[7] = type_a;
        memset(m + 8, 0, 4);
        if (type_a) {
            memcpy(m + n, "\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4", 12);
            memcpy(m + n + 12, &a.sin_addr, 4);
            n += 16;
        }
        sendto(s, m, n, 0, (void *)&a, l);
    }
}
"""
# Answers every request with the address that the server saw.
SEEN = '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%s\\n" "$REMOTE_ADDR"\n'
_APPLETS = ("sh", "httpd", "wget", "ip", "ping", "sleep", "cat", "nc", "ls", "nslookup")


def pause(directory: Path) -> Path:
    """A docker-archive of a static program that only waits for its end."""
    return _archive(
        directory / "pause.tar", PAUSE, {"pause": _program(directory, "pause", _PAUSE_SOURCE)}, ["/pause"]
    )


def busybox(directory: Path) -> Path:
    """A docker-archive of busybox, its links, a page and a name server that tell the client's address."""
    found = shutil.which("busybox")
    assert found is not None, "busybox-static is missing: make setup-test installs it"
    files = {
        "bin/busybox": Path(found).read_bytes(),
        "bin/names": _program(directory, "names", _NAMES_SOURCE),
        "www/cgi-bin/seen": SEEN.encode(),
    }
    links = {f"bin/{name}": "busybox" for name in _APPLETS}
    return _archive(directory / "busybox.tar", BUSYBOX, files, ["/bin/sh"], links)


def _program(directory: Path, name: str, text: str) -> bytes:
    source = directory / f"{name}.c"
    source.write_text(text)
    subprocess.run(["cc", "-static", "-Os", "-o", directory / name, source], check=True)
    return (directory / name).read_bytes()


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
