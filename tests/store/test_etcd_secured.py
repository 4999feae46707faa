"""etcd over TLS with a CA of one's own, client certificates and passwords; what is said when that fails."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from conformance import record

from etcd_cluster import Cluster, Member, b64, free_ports
from podway.store import Event, StoreUnavailable, open_store

PATIENCE = 60.0


def _openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def authority(directory: Path, name: str) -> None:
    """NAME.pem and NAME.key: a CA."""
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "30", "-subj", f"/CN={name}"]
    _openssl(directory, *request, *names)


def certificate(directory: Path, ca: str, name: str, alternative: str = "") -> None:
    """NAME.pem and NAME.key, signed by CA."""
    request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    # no CN: with passwords, etcd's gateway refuses certificates that have one
    _openssl(directory, *request, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/O={name}")
    lines = f"subjectAltName={alternative}\n" if alternative else ""
    (directory / f"{name}.ext").write_text(f"{lines}extendedKeyUsage=serverAuth,clientAuth\n")
    sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key"]
    more = ["-CAcreateserial", "-out", f"{name}.pem", "-days", "30", "-extfile", f"{name}.ext"]
    _openssl(directory, *sign, *more)


class Secured:
    """One member that takes nobody without a certificate of the CA."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority(directory, "ca")
        certificate(directory, "ca", "server", "IP:127.0.0.1")
        certificate(directory, "ca", "client")
        client, peer = free_ports(2)
        self.client = f"https://127.0.0.1:{client}"
        files = ("--cert-file", "server.pem", "--key-file", "server.key", "--trusted-ca-file", "ca.pem")
        more = [word if word.startswith("--") else str(directory / word) for word in files]
        member = Member(
            directory,
            "m0",
            self.client,
            f"http://127.0.0.1:{peer}",
            f"m0=http://127.0.0.1:{peer}",
            *more,
            "--client-cert-auth",
        )
        tls = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        tls.load_cert_chain(directory / "client.pem", directory / "client.key")
        self.etcd = Cluster([member], tls)

    def url(self, *, ca: str = "ca", client: str = "client", more: str = "", at: str = "") -> str:
        own = f"&cert={self.directory}/{client}.pem&key={self.directory}/{client}.key" if client else ""
        return f"etcd:{at or self.client}/secured?cacert={self.directory}/{ca}.pem{own}{more}"

    def call(self, path: str, body: dict[str, object], token: str = "") -> dict[str, object]:
        return self.etcd.call(self.etcd.members[0], path, body, token)

    def require_passwords(self) -> None:
        """root/r and podway/p; the latter may use its prefix only."""
        for name, password in (("root", "r"), ("podway", "p")):
            self.call("/v3/auth/user/add", {"name": name, "password": password})
            self.call("/v3/auth/role/add", {"name": name})
            self.call("/v3/auth/user/grant", {"user": name, "role": name})
        permission = {"permType": "READWRITE", "key": b64(b"secured/"), "range_end": b64(b"secured0")}
        self.call("/v3/auth/role/grant", {"name": "podway", "perm": permission})
        self.call("/v3/auth/enable", {})
        (self.directory / "password").write_text("p\n")

    def root(self) -> str:
        token = self.call("/v3/auth/authenticate", {"name": "root", "password": "r"})["token"]
        assert isinstance(token, str)
        return token

    @property
    def user(self) -> str:
        return f"&user=podway&password-file={self.directory}/password"


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    made = Secured(tmp_path)
    made.etcd.start()
    yield made
    made.etcd.stop()


def test_certificates_both_ways(secured: Secured) -> None:
    with contextlib.closing(open_store(secured.url(), create=True)) as store:
        _, token = store.list("Node")
        with contextlib.closing(store.watch(("Node",), token)) as watch:
            made = store.create(record("a"))
            seen: list[Event] = []
            end = time.monotonic() + PATIENCE
            while not seen and time.monotonic() < end:
                seen += watch.read()
        assert [one.record for one in seen] == [made]


def test_what_is_wrong_with_certificates_is_said(secured: Secured, tmp_path: Path) -> None:
    authority(tmp_path, "other")
    certificate(tmp_path, "other", "stranger")
    (tmp_path / "broken.pem").write_text("no certificate")
    wrong = {
        secured.url(ca="other"): "its certificate is not accepted",
        secured.url(client="stranger"): "TLS: ",
        secured.url(client=""): "TLS: ",
        secured.url(ca="missing"): "missing.pem",
        secured.url(ca="broken"): "broken.pem",
        secured.url(at=secured.client.replace("127.0.0.1", "localhost")): "not accepted: ",
    }
    for url, words in wrong.items():
        with pytest.raises(StoreUnavailable) as caught:
            open_store(url, create=True)
        assert words in str(caught.value), url
    plain = secured.client.replace("https", "http")
    with pytest.raises(StoreUnavailable):
        open_store(f"etcd:{plain}/secured", create=True)


def test_renewed_certificates_are_taken_up(secured: Secured) -> None:
    with contextlib.closing(open_store(secured.url(), create=True)) as store:
        store.create(record("a"))
        certificate(secured.directory, "ca", "client")
        (secured.directory / "ca.key").unlink()
        secured.etcd.members[0].kill()
        secured.etcd.start()
        assert store.get("Node", "a").name == "a"


def test_passwords_and_tokens_that_grow_old(secured: Secured) -> None:
    """A member that restarts has forgotten every token; changed roles make all of them old."""
    secured.require_passwords()
    with contextlib.closing(open_store(secured.url(more=secured.user), create=True)) as store:
        made = store.create(record("a"))
        secured.etcd.members[0].kill()
        secured.etcd.start()
        made = store.update_spec(msgspec.structs.replace(made, spec=b'{"x":1}'))
        permission = {"permType": "READ", "key": b64(b"other")}
        grant: dict[str, object] = {"name": "podway", "perm": permission}
        secured.call("/v3/auth/role/grant", grant, secured.root())
        made = store.update_spec(msgspec.structs.replace(made, spec=b'{"x":2}'))
        _, token = store.list("Node")
        secured.etcd.members[0].kill()
        secured.etcd.start()
        store.watch(("Node",), token).close()
        # a password that is changed is read again
        changed: dict[str, object] = {"name": "podway", "password": "q"}
        secured.call("/v3/auth/user/changepw", changed, secured.root())
        (secured.directory / "password").write_text("q")
        assert store.get("Node", "a") == made


def test_what_is_wrong_with_passwords_is_said(secured: Secured) -> None:
    secured.require_passwords()
    password = secured.directory / "password"
    with pytest.raises(StoreUnavailable, match="user=NAME&password-file=FILE"):
        open_store(secured.url(), create=True)
    password.write_text("s3cret")
    with pytest.raises(StoreUnavailable, match="refuses user podway") as caught:
        open_store(secured.url(more=secured.user), create=True)
    assert "s3cret" not in str(caught.value)
    password.unlink()
    with pytest.raises(StoreUnavailable, match=str(password)):
        open_store(secured.url(more=secured.user), create=True)
    password.write_text("p")
    elsewhere = secured.url(more=secured.user).replace("/secured?", "/elsewhere?")
    with pytest.raises(StoreUnavailable, match="readwrite on the prefix elsewhere/"):
        open_store(elsewhere, create=True)
