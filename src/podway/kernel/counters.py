"""Counters of the calling thread's network namespace."""

from __future__ import annotations

UDP4, UDP6 = "/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"


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
