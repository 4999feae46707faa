"""``etcd:https://h1:2379,h2:2379/prefix?cacert=FILE&…``: what the address of an etcd store says. Pure.

Secrets are never in it: it stands on command lines, in CNI configurations and in unit files.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from podway.model.errors import InvalidInput
from podway.model.problems import suggest

FORM = "use etcd:https://HOST:2379,HOST:2379/PREFIX?cacert=FILE"
OPTIONS = ("cacert", "cert", "key", "user", "password-file")
PORT = 2379
PREFIX = "podway"


class Endpoint(msgspec.Struct, frozen=True):
    """One member's client address."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the URL says; paths of PEM files, and of a file that holds only the password."""

    endpoints: tuple[Endpoint, ...]
    prefix: str = PREFIX
    cacert: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""


def parse(url: str) -> Address:
    """Raises InvalidInput that names what is wrong with it."""
    rest = url.removeprefix("etcd:")
    before, mark, query = rest.partition("?")
    options = _options(url, query) if mark else {}
    if "://" not in before:
        raise _wrong(url, "names no endpoint")
    scheme = before.partition("://")[0]
    # an endpoint may repeat its scheme; without, it has the first one's
    texts = [text if "://" in text else f"{scheme}://{text}" for text in before.split(",")]
    start = texts[-1].index("://") + 3
    hosts, _, prefix = texts[-1][start:].partition("/")
    texts[-1] = texts[-1][:start] + hosts
    endpoints = [_endpoint(url, text) for text in texts]
    _check_files(url, options, any(one.tls for one in endpoints))
    prefix = unquote(prefix).strip("/") or PREFIX
    return Address(
        endpoints=tuple(dict.fromkeys(endpoints)),
        prefix=prefix,
        **{name.replace("-", "_"): value for name, value in options.items()},
    )


def _wrong(url: str, what: str, fix: str = FORM) -> InvalidInput:
    shown = re.sub(r"//[^/@]*@", "//…@", url.partition("?")[0])  # no secret goes into a log
    return InvalidInput(f"store {shown!r} {what}", "--store", fix)


def _options(url: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "password":
            fix = "put it into a file that only root may read, and give password-file=FILE"
            raise InvalidInput("the store's URL holds a password, which others can see", "--store", fix)
        if name not in OPTIONS:
            raise _wrong(url, f"has an option {name!r} that is not known", suggest(name, OPTIONS))
        if name != "user" and value and not value.startswith("/"):
            fix = "the store is opened from wherever a runtime calls"
            raise _wrong(url, f"has {name}={value}, which is no absolute path", fix)
        if name in found or not value:
            raise _wrong(url, f"has {name!r} {'twice' if name in found else 'without a value'}")
        found[name] = value
    return found


def _check_files(url: str, options: dict[str, str], tls: bool) -> None:
    for one, other in (("cert", "key"), ("user", "password-file")):
        if (one in options) != (other in options):
            raise _wrong(url, f"needs {one} and {other} together", f"{one}=…&{other}=…")
    if not tls and {"cacert", "cert"} & options.keys():
        raise _wrong(url, "has certificates, but no endpoint with https")


def _endpoint(url: str, text: str) -> Endpoint:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(url, f"has an endpoint {text!r} that can't be read: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise _wrong(url, f"has an endpoint {text!r} that is neither http nor https")
    if parts.username is not None:
        raise _wrong(url, "has a user inside an endpoint", "give user=NAME&password-file=FILE")
    if not host:
        raise _wrong(url, f"has an endpoint {text!r} without a host")
    return Endpoint(host, PORT if port is None else port, parts.scheme == "https")
