"""Documents from YAML or JSON text, with the line of every key for errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from podway.model.documents import InvalidDocument, Resource, decode
from podway.model.errors import InvalidInput


class Located(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; SafeLoader would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See the class."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: str) -> str:
    """The text of a file, or of stdin for "-". Raises InvalidInput."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InvalidInput(f"can't read it: {reason}", path) from error


def resources(path: str) -> list[Resource]:
    """All documents of a file. Raises InvalidInput with file and line of every problem."""
    text = read(path)
    shown = "stdin" if path == "-" else path
    found: list[Resource] = []
    problems: list[str] = []
    for node in _compose(text, shown):
        value = _construct(node, shown)
        try:
            found.append(decode(value))
        except InvalidDocument as error:
            for problem in error.problems:
                line = line_of(node, problem.path)
                hint = f" ({problem.fix})" if problem.fix else ""
                problems.append(f"{shown}:{line}: {problem.path}: {problem.what}{hint}")
    if problems:
        raise InvalidInput("\n  ".join(problems), fix="nothing was changed")
    if not found:
        raise InvalidInput("there is no document in it", shown)
    return found


def _compose(text: str, shown: str) -> list[yaml.Node]:
    try:
        return [node for node in yaml.compose_all(text, Loader=Located) if node is not None]
    except yaml.YAMLError as error:
        raise _invalid(error, shown) from error


def _construct(node: yaml.Node, shown: str) -> Any:
    loader = Located("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _invalid(error, shown) from error
    finally:
        loader.dispose()


def _invalid(error: yaml.YAMLError, shown: str) -> InvalidInput:
    mark = getattr(error, "problem_mark", None)
    where = f"{shown}:{mark.line + 1}" if mark else shown
    return InvalidInput(f"no YAML: {getattr(error, 'problem', None) or error}", where, "nothing was changed")


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
