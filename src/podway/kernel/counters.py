"""Counters of the calling thread's network namespace."""

from __future__ import annotations

UDP4, UDP6 = "/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"

MD5_COUNTERS = ("TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure")


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


def md5_drops() -> int:
    """Packets whose TCP MD5 signature was wrong, missing or not expected, in this network namespace."""
    with open("/proc/thread-self/net/netstat") as file:
        lines = [line.split() for line in file if line.startswith("TcpExt:")]
    names, values = lines[0], lines[1]
    return sum(int(v) for name, v in zip(names, values, strict=True) if name in MD5_COUNTERS)
