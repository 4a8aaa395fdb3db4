"""Domain values to plain JSON values and back: the one codec of journal, API and client.

Enums become their value, times RFC 3339 text, amounts of money decimal text, sets sorted lists; an
event carries its class name under `type`. Unknown fields are ignored when reading, so that an older
client can follow a newer daemon; a missing field is an error.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from appliance.domain.events import Event

T = TypeVar("T")

_converter = make_converter(unstruct_collection_overrides={frozenset: sorted})
configure_tagged_union(Event, _converter, tag_name="type")
_converter.register_unstructure_hook(Decimal, str)
_converter.register_structure_hook(Decimal, lambda plain, _: Decimal(plain))


def to_plain(value: Any, as_type: Any = None) -> Any:  # noqa: ANN401  any domain value, any JSON value
    """Turn a domain value into what `json.dumps` takes; give `Event` as `as_type` for an event."""
    return _converter.unstructure(value, unstructure_as=as_type)


def from_plain(plain: Any, as_type: type[T]) -> T:  # noqa: ANN401  any JSON value
    """Read a domain value back; raises `cattrs.BaseValidationError` where it does not fit."""
    return _converter.structure(plain, as_type)


def event_to_plain(event: Event) -> dict[str, Any]:
    """Turn an event into its JSON object."""
    plain: dict[str, Any] = _converter.unstructure(event, unstructure_as=Event)
    return plain


def event_from_plain(plain: dict[str, Any]) -> Event:
    """Read an event back from its JSON object."""
    event: Event = _converter.structure(plain, Event)  # type: ignore[arg-type]  # a union, not a class
    return event
