"""``podway explain KIND[.field…]``: generated from the types that decode the documents."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

import click
import msgspec

from podway.model import documents, problems
from podway.model.errors import InvalidInput


def _type_name(kind: Any) -> str:
    if kind is bool:
        return "true | false"
    if isinstance(kind, type):
        return "mapping" if issubclass(kind, msgspec.Struct) else kind.__name__
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return "labels"
    if get_origin(kind) is tuple:
        return f"list of {_type_name(arguments[0])}"
    if arguments and all(isinstance(value, str) for value in arguments):
        return " | ".join(value or '""' for value in arguments)
    return " or ".join(_type_name(one) for one in arguments if one is not type(None)) or str(kind)


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    """The mapping below a field, through lists."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    for one in get_args(kind):
        if (found := _struct(one)) is not None:
            return found
    return None


def _plain(kind: Any) -> tuple[Any, str]:
    """(type, description) of an annotated field."""
    described = getattr(kind, "__metadata__", ())
    words = next((meta.description for meta in described if getattr(meta, "description", None)), "")
    return (kind.__origin__ if described else kind), words or ""


def fields(kind: type[msgspec.Struct]) -> dict[str, tuple[Any, str, str]]:
    """Field → (type, default as text, description)."""
    found = {}
    for field in msgspec.structs.fields(kind):
        inner, words = _plain(field.type)
        if field.required:
            default = "required"
        elif field.default in (None, msgspec.NODEFAULT) or _struct(inner) is not None:
            default = "optional"
        else:
            default = f"default {json.dumps(field.default)}"
        found[field.encode_name] = (inner, default, words)
    return found


def _documented(spec: type[msgspec.Struct]) -> str:
    """What is written of a kind, without the marks of documentation."""
    return (spec.__doc__ or "").strip().replace("``", "")


@click.command()
@click.argument("path", required=False)
def explain(path: str | None) -> None:
    """What PATH means: network, network.spec.pools, node.spec.addresses, …; without one, all kinds."""
    if path is None:
        for kind, spec in documents.SPECS.items():
            click.echo(f"{kind:16}  {_documented(spec).splitlines()[0]}")
        return
    first, *rest = path.split(".")
    kinds = {name.lower(): name for name in documents.SPECS}
    name = kinds.get(first.lower()) or kinds.get(first.lower().removesuffix("s"))
    if name is None:
        raise InvalidInput(f"{first!r} is no kind", fix=problems.suggest(first.lower(), kinds))
    current: Any = documents.SPECS[name]
    title, default, words = f"{name}.spec", "", _documented(current)
    for part in rest[1:] if rest[:1] == ["spec"] else rest:
        below = _struct(current)
        known = fields(below) if below else {}
        if part not in known:
            raise InvalidInput(f"{title} has no field {part!r}", fix=problems.suggest(part, known))
        current, default, words = known[part]
        title += f".{part}"
    click.echo(f"{title}  <{_type_name(current)}>{'  ' + default if default else ''}")
    click.echo(f"    {words or 'see below'}")
    below = _struct(current)
    for field, (kind, default, words) in (fields(below) if below else {}).items():
        click.echo(f"  {field:16} <{_type_name(kind)}>  {default}")
        if words:
            click.echo(f"      {words}")
