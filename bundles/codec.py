"""Plain values (JSON, TOML) to frozen dataclasses and back, strictly. Pure.

No unknown field may be there, and types are exact: no text for a number, no
boolean for an integer. One codec serves `release.json` and recipes, so both have one shape.
"""

from __future__ import annotations

import json
import types
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


class CodecError(ValueError):
    """A plain value does not have the shape asked for; the message names the place."""


def parse_json(content: bytes) -> object:
    """Parse UTF-8 JSON; raises CodecError for anything unusual, duplicate keys and NaN included."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise CodecError("it is nested too deeply") from None
    except ValueError as error:
        raise CodecError(f"it is not strict JSON: {error}") from error


def canonical_json(plain: object) -> bytes:
    """Return the one canonical form: UTF-8, sorted keys, no spaces, no escapes beyond JSON's own."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def to_plain(value: object) -> object:
    """Turn a dataclass (or a part of one) into plain JSON values; times become RFC 3339 in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(plain: object, as_type: type[T], *, place: str = "") -> T:
    """Read `plain` as `as_type`; raises CodecError with the place of the first fault.

    Fields that may be None or have a default may be missing (TOML has no null). Supported: str, int,
    float, bool, None, datetime, enums, `tuple[X, ...]`, `Mapping[str, object]`, unions with None, and
    dataclasses of these.
    """
    return cast("T", _read(plain, as_type, place))


def _read(plain: object, hint: Any, place: str) -> object:  # noqa: ANN401  a type hint has no better type
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _read_union(plain, get_args(hint), place)
    if origin is tuple:
        return _read_tuple(plain, get_args(hint)[0], place)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(plain, dict):
            raise CodecError(f"{place or 'it'} must be a table")
        return plain
    if is_dataclass(hint):
        return _read_dataclass(plain, cast("type[object]", hint), place)
    return _read_scalar(plain, hint, place)


def _read_union(plain: object, arms: tuple[Any, ...], place: str) -> object:
    if plain is None and types.NoneType in arms:
        return None
    (arm,) = (arm for arm in arms if arm is not types.NoneType)
    return _read(plain, arm, place)


def _read_tuple(plain: object, item_hint: Any, place: str) -> tuple[object, ...]:  # noqa: ANN401  a type hint
    if not isinstance(plain, list):
        raise CodecError(f"{place} must be a list")
    if item_hint is str:  # leaves: many, and all alike
        if not all(type(item) is str for item in plain):
            raise CodecError(f"{place} must be a list of text")
        return tuple(plain)
    return tuple(_read(item, item_hint, f"{place}[{index}]") for index, item in enumerate(plain))


def _read_dataclass(plain: object, hint: type[object], place: str) -> object:
    if not isinstance(plain, dict):
        raise CodecError(f"{place or 'it'} must be an object")
    hints = _hints(cast("Hashable", hint))
    known = {field.name: field for field in fields(hint)}  # type: ignore[arg-type]  # the caller checked is_dataclass
    unknown = sorted(set(plain) - set(known))
    if unknown:
        raise CodecError(f"{place or 'it'} has unknown fields: {', '.join(map(ascii, unknown))}")
    values = {}
    for name, field in known.items():
        where = f"{place}.{name}" if place else name
        if name in plain:
            values[name] = _read(plain[name], hints[name], where)
        elif types.NoneType in get_args(hints[name]):
            values[name] = None
        elif field.default is MISSING and field.default_factory is MISSING:
            raise CodecError(f"{where} is missing")
    try:
        return hint(**values)
    except ValueError as error:
        raise CodecError(f"{place or 'it'}: {error}") from error


@cache
def _hints(hint: Hashable) -> Mapping[str, Any]:
    return get_type_hints(hint)


def _read_scalar(plain: object, hint: Any, place: str) -> object:  # noqa: ANN401  a type hint
    if hint is datetime:
        return _read_time(plain, place)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(plain)
        except ValueError:
            choices = ", ".join(str(member.value) for member in hint)
            raise CodecError(f"{place} must be one of {choices}; it is {_shown(plain)}") from None
    if hint is float and type(plain) is int:
        return float(plain)
    if type(plain) is not hint:
        raise CodecError(f"{place} must be {_NAMES.get(hint, hint)}; it is {_shown(plain)}")
    return plain


def _read_time(plain: object, place: str) -> datetime:
    if isinstance(plain, datetime) and plain.tzinfo is not None:
        return plain.astimezone(UTC)
    try:
        return datetime.strptime(cast("str", plain), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise CodecError(f"{place} must be a time like 2026-11-24T08:00:00Z; it is {_shown(plain)}") from None


def _shown(plain: object) -> str:
    text = ascii(plain)
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004  enough to recognise a value


_NAMES: Mapping[object, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # set.add is falsy
        raise CodecError(f"the key {_shown(twice)} stands twice")
    return table


def _no_constant(name: str) -> object:
    raise CodecError(f"{name} is not a number")
