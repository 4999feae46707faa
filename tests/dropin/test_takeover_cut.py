"""The agent is killed while it frees a pod of the reference plugins': what is noted, and what comes then."""

from __future__ import annotations

import signal

import pytest
from bench.chain import Chain
from dropin_lab import CniFailed, Lab, ip, links, wait_for
from old_pods import OLD, attach, bare, chain, ours, traces

pytestmark = pytest.mark.kernel

#: (point, executables and backend, call)
CUTS = [
    ("takeover.noted", OLD[2], "DEL"),
    ("takeover.noted", OLD[1], "GC"),
    ("takeover.nft", OLD[0], "DEL"),
    ("takeover.nft", OLD[3], "GC"),
    ("takeover.legacy", OLD[1], "DEL"),
    ("takeover.shaper", OLD[3], "DEL"),
    ("takeover.shaper", OLD[2], "GC"),
    ("takeover.link", OLD[2], "DEL"),
]


def freed(lab: Lab, old: Chain, command: str, pod: str, other: str) -> None:
    """By the plugin that has bridge's name now."""
    if command == "DEL":
        lab.call("DEL", ours(old), pod)
    else:
        valid = [{"containerID": other, "ifname": "eth0"}]
        lab.call("GC", {**ours(old), "cni.dev/valid-attachments": valid})


def noted(lab: Lab) -> str:
    """What the journal says was taken over."""
    return "; ".join(one.found for one in lab.journal() if one.kind == "taken over")


def stands(pod: str) -> bool:
    """Whether it has its interface."""
    return any(one["ifname"] == "eth0" for one in ip("link", inside=pod))


@pytest.mark.parametrize(("point", "which", "command"), CUTS)
def test_killed_while_theirs_is_freed(
    lab: Lab,
    pod: str,
    other_pod: str,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    which: tuple[str, str],
    command: str,
) -> None:
    """At ``takeover.noted`` all stands and is noted; the same call again takes what is left and no more."""
    old = chain(lab, *which, monkeypatch)
    other = attach(old, other_pod, 8081)
    shaper_of_other = links("ifb")
    mine = bare(attach(old, pod))
    whole, kept = traces(mine, pod), traces(bare(other), other_pod)
    (shaper,) = set(links("ifb")) - set(shaper_of_other)
    lab.start(PODWAY_FAULT=point)
    with pytest.raises(CniFailed) as cut:
        freed(lab, old, command, pod, other_pod)
    assert cut.value.code == 11
    assert lab.process is not None and lab.process.wait(30) == -signal.SIGKILL
    lab.process = None
    told = noted(lab)
    assert f"link {shaper}" in told and ("link eth0" in told) == (command == "DEL")
    assert all(handle in told for handle in _named(whole))
    left = traces(mine, pod)
    assert left == whole if point == "takeover.noted" else len(left) < len(whole)
    assert (shaper in links("ifb")) == (point not in ("takeover.shaper", "takeover.link"))
    assert stands(pod) == (point != "takeover.link" or command == "GC")
    assert (lab.data / "bench-ports" / mine).exists()
    lab.start()
    freed(lab, old, command, pod, other_pod)
    wait_for(lambda: traces(mine, pod) == [], "nothing of the pod is left")
    assert links("ifb") == shaper_of_other
    assert stands(pod) == (command == "GC")
    assert not (lab.data / "bench-ports" / mine).exists()
    assert traces(bare(other), other_pod) == kept
    for number in range(len(old.conflist["plugins"])):
        lab.call("CHECK", ours(old, number), other_pod, before=other)


def _named(lines: list[str]) -> set[str]:
    """Chains that lines of a ruleset begin."""
    words = [line.split() for line in lines]
    return {one[1] for one in words if one[0] in ("chain", "-N") and one[1].startswith("CNI-")}
