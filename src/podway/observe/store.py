"""Whether the store is reached from here, and every member of an etcd, as checks of ``podway doctor``."""

from __future__ import annotations

import contextlib

import msgspec

from podway.kernel.preflight import Check
from podway.model.errors import PodwayError
from podway.store import open_store
from podway.store.etcd_client import Client, decoded
from podway.store.etcd_url import Address, Endpoint, parse

PATIENCE = 2.0  # seconds for one member


class _Status(msgspec.Struct, frozen=True):
    """StatusResponse."""

    version: str = "?"
    leader: str = "0"
    errors: list[str] = []


def checks(url: str) -> list[Check]:
    """Of the store at ``url``. What is wrong is a warning: a node goes on without its store."""
    members = [_member(parse(url), one) for one in parse(url).endpoints] if url.startswith("etcd:") else []
    try:
        with contextlib.closing(open_store(url)) as store:
            records, _ = store.list("Network", "Node")
    except PodwayError as error:
        where = f"{error.where}: " if error.where else ""
        return [*members, Check("store", "warning", f"{where}{error.what}", error.fix)]
    counts = {kind: sum(one.kind == kind for one in records) for kind in ("Network", "Node")}
    kind = url.partition(":")[0]
    words = f"{kind}: {counts['Network']} networks, {counts['Node']} nodes"
    return [*members, Check("store", "ok", words)]


def _member(address: Address, one: Endpoint) -> Check:
    client = Client(msgspec.structs.replace(address, endpoints=(one,)))
    try:
        status = decoded(client.call("/v3/maintenance/status", {}, PATIENCE).body, _Status)
    except PodwayError as error:
        return Check("etcd", "warning", error.what, error.fix)
    finally:
        client.close()
    if status.errors or status.leader == "0":
        words = ", ".join(status.errors) or "it has no leader"
        return Check("etcd", "warning", f"{one}: {words}", "see etcdctl endpoint status and alarm list")
    return Check("etcd", "ok", f"{one} answers, version {status.version}")
