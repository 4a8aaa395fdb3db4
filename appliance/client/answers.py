"""Reading what the daemon answered."""

from __future__ import annotations

from typing import Any, TypeVar

from cattrs import BaseValidationError

from appliance.domain.errors import InternalError
from appliance.domain.wire import from_plain

T = TypeVar("T")


def read_answer(plain: Any, as_type: type[T]) -> T:  # noqa: ANN401  any JSON value
    """Read an answer; raises InternalError where the daemon speaks otherwise than this client."""
    try:
        return from_plain(plain, as_type)
    except (BaseValidationError, KeyError) as error:
        raise InternalError(
            detail="The management daemon's answer cannot be read: it is of another version than this client.",
            remedy="Use the client of the running appliance: /opt/leeward/appliance/current/bin/leeward.",
        ) from error
