"""Counters of the calling thread's network namespace."""

from __future__ import annotations

UDP4, UDP6 = "/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"

MD5_UNSIGNED, MD5_SIGNED = ("TCPMD5NotFound", "TCPMD5Failure"), ("TCPMD5Unexpected",)


def udp_checksum_errors() -> int:
    """Datagrams of both families dropped for a wrong checksum since boot (UdpInCsumErrors, RFC 4113)."""
    return _udp4() + _udp6()


def _udp4() -> int:
    with open(UDP4) as file:
        rows = [line.split() for line in file if line.startswith("Udp:")]
    names, values = rows
    return int(values[names.index("InCsumErrors")])


def _udp6() -> int:
    try:
        with open(UDP6) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Udp6InCsumErrors"))
    except FileNotFoundError:
        return 0  # no IPv6 on this machine


def md5_drops() -> tuple[int, int]:
    """Packets in this network namespace whose TCP MD5 signature (RFC 2385) was wrong or missing, and those
    that had one where no password is set."""
    with open("/proc/thread-self/net/netstat") as file:
        names, values = [line.split() for line in file if line.startswith("TcpExt:")]
    counted = dict(zip(names[1:], map(int, values[1:]), strict=True))
    return sum(counted.get(name, 0) for name in MD5_UNSIGNED), sum(
        counted.get(name, 0) for name in MD5_SIGNED
    )
