"""Documents from YAML or JSON text, with the line of every key for errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from podway.model.documents import InvalidDocument, Resource, decode, kind_of, name_of
from podway.model.errors import InvalidInput
from podway.model.problems import Problem

T = TypeVar("T")
MOST_TEXT = 4 << 20  # characters; far more than anybody writes by hand


class Located(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; SafeLoader would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See the class."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    words = f"key {key.value!r} twice"
                    raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class Placed:
    """A resource and where it was written."""

    def __init__(self, resource: Resource, file: str, node: yaml.Node) -> None:
        self.resource = resource
        self.kind = kind_of(resource)
        self.name = name_of(resource)
        self._file = file
        self._node = node

    def at(self, problem: Problem) -> str:
        """The problem with file and line."""
        return f"{self._file}:{line_of(self._node, problem.path)}: {problem}"


def read(path: str) -> str:
    """The text of a file, or of stdin for "-". Raises InvalidInput."""
    try:
        raw = sys.stdin.buffer.read(MOST_TEXT + 1) if path == "-" else _bytes_of(path)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InvalidInput(f"can't read it: {reason}", _shown(path)) from error
    if len(raw) > MOST_TEXT:
        raise InvalidInput(f"it is longer than {MOST_TEXT >> 20} MiB", _shown(path), "split it")
    return text


def _bytes_of(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MOST_TEXT + 1)


def _shown(path: str) -> str:
    return "stdin" if path == "-" else path


def resources(path: str) -> list[Placed]:
    """All documents of a file. Raises InvalidInput with file and line of every problem."""
    shown = _shown(path)
    try:
        found, problems = _decoded(read(path), shown)
    except RecursionError as error:
        raise InvalidInput("it is nested too deep", shown, "nothing was changed") from error
    if problems:
        raise InvalidInput("\n  ".join(problems), fix="nothing was changed")
    if not found:
        raise InvalidInput("there is no document in it", shown)
    return found


def one(path: str, decoder: Callable[[Any], T]) -> T:
    """The only document of a file, decoded. Raises InvalidInput with file and line of every problem."""
    shown = _shown(path)
    try:
        nodes = _compose(read(path), shown)
        if len(nodes) != 1:
            raise InvalidInput(f"there are {len(nodes)} documents in it", shown, "write one")
        return decoder(_construct(nodes[0], shown))
    except InvalidDocument as error:
        problems = [f"{shown}:{line_of(nodes[0], p.path)}: {p}" for p in error.problems]
        raise InvalidInput("\n  ".join(problems), fix="nothing was changed") from error
    except RecursionError as error:
        raise InvalidInput("it is nested too deep", shown, "nothing was changed") from error


def _decoded(text: str, shown: str) -> tuple[list[Placed], list[str]]:
    found: list[Placed] = []
    problems: list[str] = []
    names: set[tuple[str, str]] = set()
    for node in _compose(text, shown):
        value = _construct(node, shown)
        try:
            one = Placed(decode(value), shown, node)
        except InvalidDocument as error:
            problems += [f"{shown}:{line_of(node, p.path)}: {p}" for p in error.problems]
            continue
        if (one.kind, one.name) in names:
            problems.append(one.at(Problem("metadata.name", f"{one.kind} {one.name} stands here twice")))
        names.add((one.kind, one.name))
        found.append(one)
    return found, problems


def _compose(text: str, shown: str) -> list[yaml.Node]:
    try:
        return [node for node in yaml.compose_all(text, Loader=Located) if not _empty(node)]
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(error, shown) from error


def _empty(node: yaml.Node | None) -> bool:
    """A document of nothing, as a --- at the end makes one."""
    return node is None or (isinstance(node, yaml.ScalarNode) and node.value == "" and node.style is None)


def _construct(node: yaml.Node, shown: str) -> Any:
    loader = Located("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(error, shown) from error
    finally:
        loader.dispose()


def _invalid(error: Exception, shown: str) -> InvalidInput:
    mark = getattr(error, "problem_mark", None)
    where = f"{shown}:{mark.line + 1}" if mark else shown
    words = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return InvalidInput(f"no YAML: {words}", where, "nothing was changed")


def line_of(node: yaml.Node, path: str) -> int:
    """The line of a path such as "spec.pools[0].cidr", or of the nearest thing above it."""
    line: int = node.start_mark.line
    for part in path.replace("[", ".[").split("."):
        inner = _step(node, part)
        if inner is None:
            break
        line, node = inner
    return line + 1


def _step(node: yaml.Node, part: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and part.startswith("["):
        number = int(part[1:-1])
        if number < len(node.value):
            return node.value[number].start_mark.line, node.value[number]
    return None
