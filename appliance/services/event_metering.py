"""Meters streams of named events (OpenAI's Responses, Anthropic's Messages), which pass as they are.

Such streams bring counts at their ends only. Of an answer that breaks off, what the engine had
made is unknown, and recorded so.

Pure: bytes in, bytes out; no text is kept beyond the event that is being read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appliance.services.metering import MAX_EVENT_BYTES, StreamBroken, Tally, event_end

_MAX_COUNT = 2**53


@dataclass(slots=True)
class EventTally(Tally):
    """What is known of one answer so far; `began` once the engine has made a token."""

    began: bool = False

    @property
    def has_tokens(self) -> bool:
        """Whether the engine has made a token."""
        return self.began


class EventMeter:
    """Feeds on the engine's bytes, gives the same bytes in whole events, and keeps the tally.

    `look` judges an event's data. After the first token, events that begin as `usual` are not parsed.
    """

    def __init__(self, look: Callable[[dict[str, Any], EventTally], None], *, usual: bytes) -> None:
        self.tally = EventTally()
        self._usual = usual
        self._look = look
        self._buffer = b""

    def feed(self, received: bytes) -> bytes:
        """Take bytes of the engine, return bytes for the caller. Raises StreamBroken."""
        buffer = self._buffer + received if self._buffer else received
        start = 0
        while (end := event_end(buffer, start)) >= 0:
            self._event(buffer[start:end])
            start = end
        self._buffer = buffer[start:]
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise StreamBroken
        return buffer[:start]

    def finish(self) -> bytes:
        """Take the end of the engine's stream; an event that lacks its blank line still counts."""
        rest, self._buffer = self._buffer, b""
        self._event(rest)
        return rest

    def _event(self, event: bytes) -> None:
        if self.tally.began and event.startswith(self._usual):
            return
        data = b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
        try:
            payload = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(payload, dict):
            self._look(payload, self.tally)


def count(usage: object, *names: str) -> int | None:
    """Read a count by its path in a usage object; `None` if there is none."""
    value = usage
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT else None
