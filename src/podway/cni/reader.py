"""Reading JSON objects as CNI clients write them: any case, null for absent, every error names its key.

containerd sends Go-style keys ("HostPort"), podman lowerCamel ("hostPort"); Go's own decoder takes both.
"""

from __future__ import annotations

from podway.cni.errors import wrong

_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "true or false", float: "a fraction"}


def kind_of(value: object) -> str:
    """The JSON name of a decoded value's type, with its article."""
    return "null" if value is None else _NAMES.get(type(value), "a number")


class Section:
    """A JSON object at ``path``. Of two keys that differ in case only, the last holds, as in Go."""

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise wrong(path, f"must be an object, not {kind_of(value)}")
        self.path = path
        self._items = {str(key).lower(): item for key, item in value.items() if item is not None}
        self._null = {str(key).lower() for key in value}

    def at(self, key: str) -> str:
        """The path of a key, for errors."""
        return f"{self.path}.{key}" if self.path else key

    @property
    def names(self) -> tuple[str, ...]:
        """The keys that aren't null, in lower case."""
        return tuple(self._items)

    def raw(self, key: str) -> object:
        """The value as decoded; None when it is null or absent."""
        return self._items.get(key.lower())

    def present(self, key: str) -> bool:
        """Whether the key is there, null included."""
        return key.lower() in self._null

    def text(self, key: str, default: str = "") -> str:
        """A string. Raises CniError 7."""
        value = self.raw(key)
        if value is None:
            return default
        return as_text(self.at(key), value)

    def flag(self, key: str, default: bool) -> bool:
        """A boolean. Raises CniError 7."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong(self.at(key), f"must be true or false, not {kind_of(value)}")
        return value

    def number(self, key: str, highest: int = 2**64 - 1) -> int:
        """A whole number from 0 to ``highest``, 0 when absent. Raises CniError 7."""
        found = self.maybe_number(key, highest)
        return 0 if found is None else found

    def maybe_number(self, key: str, highest: int = 2**64 - 1) -> int | None:
        """As ``number``, but None when absent."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(self.at(key), f"must be a whole number, not {kind_of(value)}")
        if not 0 <= value <= highest:
            raise wrong(self.at(key), f"must be from 0 to {highest}, not {value}")
        return value

    def items(self, key: str) -> list[tuple[str, object]]:
        """(path, value) of an array's items; empty when absent. Raises CniError 7."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise wrong(self.at(key), f"must be an array, not {kind_of(value)}")
        return [(f"{self.at(key)}[{index}]", item) for index, item in enumerate(value)]

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings. Raises CniError 7."""
        return tuple(as_text(path, item) for path, item in self.items(key))

    def section(self, key: str) -> Section:
        """An object, empty when absent. Raises CniError 7."""
        value = self.raw(key)
        return Section({} if value is None else value, self.at(key))

    def sections(self, key: str) -> list[Section]:
        """An array of objects. Raises CniError 7."""
        return [Section(item, path) for path, item in self.items(key)]


def as_text(path: str, value: object) -> str:
    """``value`` if it is a string. Raises CniError 7 that names ``path``.

    None holds a zero byte: text ends there for the kernel, which would take a part for the whole."""
    if not isinstance(value, str):
        raise wrong(path, f"must be a string, not {kind_of(value)}")
    if "\0" in value:
        raise wrong(path, "holds a zero byte")
    return value
