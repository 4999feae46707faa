"""Drop-in ``tuning``: sysctls inside a pod and settings of its interface."""

from __future__ import annotations

import msgspec

from podway.model.dropin import Piece, Tuned
from podway.model.objects import Actual, AnyObject, Link, Sysctl
from podway.plan.dropin.pod import Change

SETTINGS = ("mac", "mtu", "txqlen", "promisc", "allmulti")  # of Tuned and Link alike


def in_pod(piece: Piece, want: Tuned) -> tuple[AnyObject, ...]:
    """The interface is another plugin's, of whatever kind."""
    settings = Link(
        name=piece.ifname,
        kind=want.kind,
        up=None,
        mac=want.mac,
        mtu=want.mtu,
        txqlen=want.txqlen,
        promisc=want.promisc,
        allmulti=want.allmulti,
    )
    sysctls = tuple(Sysctl(path=path, value=value) for path, value in want.sysctls)
    plain = Link(name=piece.ifname, kind=want.kind, up=None)
    return sysctls if settings == plain else (settings, *sysctls)


def over(before: Tuned, after: Tuned) -> Tuned:
    """What both set, one after the other."""
    anew = {name: value for name in SETTINGS if (value := getattr(after, name)) is not None}
    sysctls = tuple(sorted((dict(before.sysctls) | dict(after.sysctls)).items()))
    return msgspec.structs.replace(before, kind=after.kind or before.kind, sysctls=sysctls, **anew)


def as_found(piece: Piece, want: Tuned, actual: Actual) -> Change:
    """The interface's settings as they were; sysctls stay."""
    return (want.before,) if want.before is not None else (), ()


def overwritten(want: Tuned) -> tuple[Sysctl, ...]:
    """The sysctls as they were, for an ADD that fails."""
    return tuple(Sysctl(path=path, value=value) for path, value in want.found)
