"""A golden file for each feature, every one of which BIRD takes; nothing gets out of its quotes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest
import speakers

from podway.bird.render import digest, render
from podway.model.bgp import symbol
from podway.model.errors import InvalidInput

GOLDEN = Path(__file__).parent / "golden"
LOG = "/var/log/bird.log"


@pytest.mark.parametrize("feature", speakers.FEATURES)
def test_golden(feature: str) -> None:
    """With GOLDEN=write in the environment the files are written anew, to be read in the diff."""
    text = render(speakers.FEATURES[feature], LOG)
    path = GOLDEN / f"{feature}.conf"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("feature", speakers.FEATURES)
def test_bird_takes_it(feature: str) -> None:
    done = subprocess.run(
        ["bird", "-p", "-c", str(GOLDEN / f"{feature}.conf")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("text", ['a"; }', "a\nb", "a\rb", "ä", "a\0b", "x" * 300])
@pytest.mark.parametrize("field", ["password", "description"])
def test_nothing_gets_out_of_its_quotes(field: str, text: str) -> None:
    speaker = speakers.speaker(speakers.TOR | {field: text})
    with pytest.raises(InvalidInput, match=field):
        render(speaker, LOG)


def test_a_password_of_81_characters() -> None:
    render(speakers.speaker(speakers.TOR | {"password": "x" * 80}), LOG)
    with pytest.raises(InvalidInput, match="longer than 80"):
        render(speakers.speaker(speakers.TOR | {"password": "x" * 81}), LOG)


@pytest.mark.parametrize("name", ['x"; }', 'a"', "é0"])
def test_a_link_with_a_name_of_tricks(name: str) -> None:
    """The kernel takes quotes, braces and any byte above 127 in a link's name."""
    with pytest.raises(InvalidInput, match="its name holds"):
        render(speakers.speaker(speakers.NODE, uplinks=("up0", name)), LOG)


def test_a_log_path_with_a_quote() -> None:
    with pytest.raises(InvalidInput, match="path"):
        render(speakers.speaker(), '/tmp/"x')


@pytest.mark.parametrize("text", ["x:1", "1:2:3:4", "1;2", ""])
def test_a_community_is_numbers(text: str) -> None:
    (tor,) = speakers.FEATURES["filters"].sessions
    rule = msgspec.structs.replace(tor.exports[0], add=(text,))
    changed = msgspec.structs.replace(tor, exports=(rule,))
    with pytest.raises(ValueError):
        render(msgspec.structs.replace(speakers.speaker(), sessions=(changed,)), LOG)


def test_names_are_symbols_and_differ() -> None:
    assert symbol("n", "node-a.example") != symbol("n", "node-a-example")
    long = "gke-production-cluster-default-pool-0a1b2c3d-"  # four digits of a digest were the same for these
    assert symbol("n4", long + "016") != symbol("n4", long + "142")
    assert symbol("n", "x" * 300).replace("_", "").isalnum() and len(symbol("n", "x" * 300)) < 60


def test_the_digest_is_of_the_text() -> None:
    assert digest("a") != digest("b") and digest("a") == digest("a")
