"""What the URL of an etcd store may say, and what is said of one that is wrong."""

from __future__ import annotations

import pytest

from podway.model.errors import InvalidInput
from podway.store.etcd_url import Address, Endpoint, parse


def test_members_prefix_and_files() -> None:
    url = "etcd:https://h1:2379,h2,https://[2001:db8::1]:4001/my/fleet?cacert=/a%20b.pem&cert=/c&key=/k"
    assert parse(url) == Address(
        endpoints=(
            Endpoint("h1", 2379, True),
            Endpoint("h2", 2379, True),
            Endpoint("2001:db8::1", 4001, True),
        ),
        prefix="my/fleet",
        cacert="/a b.pem",
        cert="/c",
        key="/k",
    )


def test_what_is_left_out_has_a_default() -> None:
    assert parse("etcd:http://h1") == Address(endpoints=(Endpoint("h1", 2379, False),), prefix="podway")
    found = parse("etcd:http://h1/?user=a&password-file=/f")
    assert (found.user, found.password_file, found.prefix) == ("a", "/f", "podway")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("etcd:", "names no endpoint"),
        ("etcd:h1:2379", "names no endpoint"),
        ("etcd:ftp://h1", "neither http nor https"),
        ("etcd:http://", "without a host"),
        ("etcd:http://h1,,h2", "without a host"),
        ("etcd:http://h1:port", "can't be read"),
        ("etcd:http://h1:99999", "can't be read"),
        ("etcd:http://me:secret@h1", "user inside"),
        ("etcd:http://h1?password=secret", "others can see"),
        ("etcd:https://h1?ca=x", "known: cacert"),
        ("etcd:https://h1?cert=/x", "cert and key together"),
        ("etcd:https://h1?user=x", "user and password-file together"),
        ("etcd:https://h1?cacert=/a&cacert=/b", "twice"),
        ("etcd:https://h1?cacert=", "without a value"),
        ("etcd:https://h1?cacert=ca.pem", "no absolute path"),
        ("etcd:http://h1?cacert=/a", "no endpoint with https"),
    ],
)
def test_what_is_wrong_is_named(url: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(url)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
