"""``dhcp daemon`` of units that were written for the reference plugin: it stays until it is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel
SAYS = b"dhcp daemon: Podway's agent keeps the DHCP leases"
PATIENCE = 60


def command(shim: list[str], *flags: str, name: str = "dhcp") -> list[str]:
    """A shell that becomes the executable under a name; the script in Python knows it by PODWAY_ARGV0."""
    called = f"-a {name}" if len(shim) == 1 else ""
    return ["bash", "-c", f'exec {called} "$@" daemon {" ".join(flags)}', "bash", *shim]


def environment(name: str = "dhcp") -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PODWAY_ARGV0": f"/opt/cni/bin/{name}"}


@contextlib.contextmanager
def daemon(argv: list[str], passed: int = -1) -> Iterator[subprocess.Popen[bytes]]:
    """One that has said what it does. ``passed``: a listening socket, given as by systemd."""
    process = subprocess.Popen(
        argv,
        env={**environment(), "CNI_COMMAND": "ADD"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[passed] if passed >= 0 else [],
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        assert process.stderr.readline().startswith(SAYS)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize("flag", ["-pidfile PATH", "-pidfile=PATH", "--pidfile=PATH"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stays_until_it_is_told_to_end(
    shim: list[str], tmp_path: Path, flag: str, number: signal.Signals
) -> None:
    """With the flags of any unit, and its number in the file that is watched."""
    path = tmp_path / "dhcp.pid"
    flags = ["-broadcast", "-socketpath /run/other.sock", "-timeout=5s", flag.replace("PATH", str(path))]
    with daemon(command(shim, *flags)) as process:
        assert path.read_text() == str(process.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None and process.stdout.read() == b""
    assert not path.exists()


def test_the_first_of_a_pid_namespace_is_ended_too(shim: list[str]) -> None:
    """A container's first process hears no signal that it hasn't asked for."""
    with daemon(["unshare", "--pid", "--fork", "--kill-child", *command(shim)]) as process:
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_pidfile_that_cant_be_written(shim: list[str]) -> None:
    """Is a failure to start, as with the reference plugin."""
    done = subprocess.run(
        command(shim, "-pidfile /nonesuch/pid"),
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"can't write -pidfile /nonesuch/pid: No such file" in done.stderr


def test_nobody_waits_at_the_socket_of_a_unit(shim: list[str], tmp_path: Path) -> None:
    """Whoever still asks there learns at once that no answer comes."""
    path = str(tmp_path / "dhcp.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        argv = command(shim)
        argv[2] = f"export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&{listening.fileno()}; {argv[2]}"
        with daemon(argv, listening.fileno()) as process:
            for _ in range(2):
                with socket.socket(socket.AF_UNIX) as asking:
                    asking.settimeout(PATIENCE)
                    asking.connect(path)
                    assert asking.recv(1) == b""
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


def test_other_names_have_no_daemon(shim: list[str]) -> None:
    """They say what they are."""
    done = subprocess.run(
        command(shim, name="bridge"),
        env=environment("bridge"),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, b"") and b"the CNI plugin of Podway" in done.stderr
