"""Reads the token counts out of an engine's answer and takes out of it what the caller did not ask for.

The gateway always asks the engine for running counts, so that a request that breaks off is still
metered. A caller that did not ask must see the very bytes that it would have seen otherwise: the
`usage` member is cut out of the JSON text in place, and the last chunk, which holds nothing else,
is left out. Everything else passes byte for byte.

Server-sent events (WHATWG HTML, section 9.2.6) come in any division into reads, with LF, CR or
CRLF, with comments, with or without a space after `data:`. What is sent on depends on the stream
alone, never on how it was cut.

Pure: bytes in, bytes out; no text is kept beyond the event that is being read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from json.decoder import WHITESPACE  # type: ignore[attr-defined]  # the decoder's own pattern, in json since 2.6
from typing import Any

from appliance.domain.usage import UNKNOWN_USAGE, TokenUsage, UsageSource

MAX_EVENT_BYTES = 16 * 1024 * 1024
_MAX_COUNT = 2**53

_EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")
_FINISH = re.compile(rb'"finish_reason":"([a-z_]{1,32})"')
_USAGE = b',"usage":'
_NO_CHOICES = b'"choices":[]'
_REASON = b'"finish_reason":"'
_DONE = b"[DONE]"
_decoder = json.JSONDecoder()


_COUNT = rb"(?:0|[1-9][0-9]{0,14}+|null)"
_FLAT = rb'\{(?:"[a-z_]{1,48}":%b(?:,"[a-z_]{1,48}":%b)*+)?+\}' % (_COUNT, _COUNT)
_TAIL = re.compile(
    rb',"usage":(\{"prompt_tokens":(?:0|[1-9][0-9]{0,14}+)(?:,"[a-z_]{1,48}":(?:%b|%b))*+\})\}\n\n\Z' % (_COUNT, _FLAT)
)
"""Usage as vLLM writes it, at the end of an event. What it matches is sound JSON, so it is parsed only if asked for."""


class StreamBroken(Exception):
    """The engine sent something that is not a stream of bounded events."""


@dataclass(slots=True)
class Tally:
    """What is known of one answer so far. A value that grows, owned by one request.

    `counts` is the newest usage object: as bytes, as JSON, or already read. A stream brings one with
    every chunk, and few of them are ever looked at.
    """

    counts: object = None
    source: UsageSource = UsageSource.NONE
    finish_reason: str | None = None
    done: bool = False
    failed: bool = False

    @property
    def usage(self) -> TokenUsage:
        """The newest counts."""
        counts = self.counts
        if isinstance(counts, TokenUsage):
            return counts
        return usage_of(json.loads(counts) if isinstance(counts, bytes) else counts) or UNKNOWN_USAGE

    @property
    def has_tokens(self) -> bool:
        """Whether the engine has made a token."""
        return self.source is not UsageSource.NONE and bool(self.usage.completion_tokens)


class StreamMeter:
    """Feeds on the engine's bytes, gives the caller's bytes, and keeps the tally."""

    def __init__(self, *, choices: int, wants_usage: bool, wants_continuous_usage: bool) -> None:
        self.tally = Tally()
        self._wants_usage = wants_usage
        self._wants_continuous_usage = wants_continuous_usage
        self._buffer = b""
        self._running: dict[int, TokenUsage] | None = {} if choices > 1 else None

    def feed(self, received: bytes) -> bytes:
        """Take bytes of the engine, return bytes for the caller. Raises StreamBroken."""
        if not self._buffer and received.endswith(b"}\n\n") and self._running is None:
            kept = self._usual(received)
            if kept is not None:
                return kept
        buffer = self._buffer + received if self._buffer else received
        out: list[bytes] = []
        start = 0
        while (end := event_end(buffer, start)) >= 0:
            out.append(self._event(buffer[start:end]))
            start = end
        self._buffer = buffer[start:]
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise StreamBroken
        return b"".join(out) if len(out) != 1 else out[0]

    def _usual(self, received: bytes) -> bytes | None:
        """Meter what nearly every read brings: one event, one line, running counts at its end."""
        at = received.rfind(_USAGE)
        if (
            at < 0
            or received.find(b"\n") != len(received) - 2
            or not received.startswith(b"data: {")
            or b"\r" in received
            or _NO_CHOICES in received
            or self.tally.source is UsageSource.FINAL
            or (found := _TAIL.match(received, at)) is None
        ):
            return None
        tally = self.tally
        tally.counts, tally.source = found[1], UsageSource.CONTINUOUS
        if _REASON in received and (reason := _FINISH.search(received)):
            tally.finish_reason = reason[1].decode()
        return received if self._wants_continuous_usage else received[:at] + b"}\n\n"

    def finish(self) -> bytes:
        """Take the end of the engine's stream; an event that lacks its blank line still counts."""
        rest, self._buffer = self._buffer, b""
        return self._event(rest) if rest else b""

    def _event(self, event: bytes) -> bytes:
        if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
            payload = event[6:-2]
            kept = self._payload(payload)
            if kept is payload:
                return event
            return b"" if kept is None else b"data: %b\n\n" % kept
        return self._any_event(event)

    def _any_event(self, event: bytes) -> bytes:
        """Do the same for an event of any shape, line by line."""
        lines = [(match[1], match[2]) for match in _LINE.finditer(event) if match[0]]
        data = [_field_value(line) for line, _ in lines if _is_data(line)]
        if not data:
            return event
        payload = b"\n".join(data)
        kept = self._payload(payload)
        if kept is payload:
            return event
        if kept is None:
            return b""
        return _with_data(lines, kept)

    def _payload(self, payload: bytes) -> bytes | None:
        """Meter one event's data; return it, what is left of it, or `None` if nothing is."""
        found = _tail_usage(payload)
        if found is None:
            return self._any_payload(payload)
        counts, cut = found
        is_final = _NO_CHOICES in payload
        if self._running is not None and not is_final:
            return self._any_payload(payload)  # several choices: whose counts these are stands elsewhere
        self._count(counts, is_final=is_final, index=0)
        if reason := _FINISH.search(payload):
            self.tally.finish_reason = reason[1].decode()
        return self._strip(payload, cut, is_final=is_final)

    def _any_payload(self, payload: bytes) -> bytes | None:
        if payload.strip() == _DONE:
            self.tally.done = True
            return payload
        try:
            text = payload.decode()
            chunk = json.loads(text)
        except (ValueError, RecursionError):
            return payload
        if not isinstance(chunk, dict):
            return payload
        if chunk.get("error") is not None:
            self.tally.failed = True
        choices = chunk.get("choices")
        first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if isinstance(reason := first.get("finish_reason"), str):
            self.tally.finish_reason = reason
        if "usage" not in chunk:
            return payload
        is_final = choices == [] and isinstance(chunk["usage"], dict)
        index = first.get("index", 0)
        self._count(chunk["usage"], is_final=is_final, index=index if isinstance(index, int) else 0)
        return self._strip(payload, _member_span(text, "usage"), is_final=is_final)

    def _strip(self, payload: bytes, cut: tuple[int, int], *, is_final: bool) -> bytes | None:
        if self._wants_continuous_usage or (self._wants_usage and is_final):
            return payload
        return None if is_final else payload[: cut[0]] + payload[cut[1] :]

    def _count(self, counts: object, *, is_final: bool, index: int) -> None:
        if not _has_counts(counts) or (self.tally.source is UsageSource.FINAL and not is_final):
            return
        if self._running is not None and not is_final:
            self._running[index] = usage_of(counts) or UNKNOWN_USAGE
            counts = _sum(tuple(self._running.values()))
        self.tally.counts = counts
        self.tally.source = UsageSource.FINAL if is_final else UsageSource.CONTINUOUS


def tally_of_answer(body: bytes) -> Tally:
    """Read the counts of an answer that is not a stream; what is not there stays unknown."""
    tally = Tally()
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return tally
    if not isinstance(answer, dict):
        return tally
    if _has_counts(counts := answer.get("usage")):
        tally.counts, tally.source = counts, UsageSource.FINAL
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        reason = choices[0].get("finish_reason")
        tally.finish_reason = reason if isinstance(reason, str) else None
    tally.done = True
    return tally


def usage_of(counts: object) -> TokenUsage | None:
    """Read OpenAI's usage object; `None` if it has no token counts."""
    if not isinstance(counts, dict) or not _has_counts(counts):
        return None
    prompt = counts.get("prompt_tokens_details")
    media = prompt.get("multimodal_tokens") if isinstance(prompt, dict) else None
    return TokenUsage(
        prompt_tokens=_number(counts, "prompt_tokens"),
        completion_tokens=_number(counts, "completion_tokens"),
        cached_tokens=_number(prompt, "cached_tokens"),
        image_tokens=_number(media, "image"),
        reasoning_tokens=_number(counts.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _has_counts(counts: object) -> bool:
    return _number(counts, "prompt_tokens") is not None or _number(counts, "completion_tokens") is not None


def _number(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT else None


def _sum(running: tuple[TokenUsage, ...]) -> TokenUsage:
    """Add what several choices of one prompt have cost: the prompt once, completions each."""
    prompts = [usage.prompt_tokens for usage in running if usage.prompt_tokens is not None]
    reasoning = [usage.reasoning_tokens for usage in running if usage.reasoning_tokens is not None]
    return TokenUsage(
        prompt_tokens=max(prompts, default=None),
        completion_tokens=sum(usage.completion_tokens or 0 for usage in running),
        reasoning_tokens=sum(reasoning) if reasoning else None,
    )


def event_end(buffer: bytes, start: int) -> int:
    """Return where the first whole event ends, or -1."""
    if b"\r" not in buffer:
        end = buffer.find(b"\n\n", start)
        return end + 2 if end >= 0 else -1
    match = _EVENT_END.search(buffer, start)
    if match is None or (match.end() == len(buffer) and buffer.endswith(b"\r")):
        return -1  # a CR at the very end may yet turn out to be a CRLF
    return match.end()


def _is_data(line: bytes) -> bool:
    return line == b"data" or line.startswith(b"data:")


def _field_value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")


def _with_data(lines: list[tuple[bytes, bytes]], payload: bytes) -> bytes:
    """Write an event's lines with other data in the place of its first data line."""
    out: list[bytes] = []
    written = False
    for line, terminator in lines:
        if not _is_data(line):
            out.append(line + terminator)
        elif not written:
            written = True
            name = b"data: " if line.startswith(b"data: ") else b"data:"
            out.extend(name + part + terminator for part in payload.split(b"\n"))
    return b"".join(out)


def _tail_usage(payload: bytes) -> tuple[object, tuple[int, int]] | None:
    """Find usage as vLLM writes it, as the last member of the chunk: its value and where to cut.

    A quotation mark inside a JSON string is escaped, so `,"usage":` can only be a member's name;
    what stands between it and the last brace is one JSON value, so it is the outermost object's.
    """
    at = payload.rfind(_USAGE)
    if at < 0 or not payload.endswith(b"}"):
        return None
    try:
        return json.loads(payload[at + len(_USAGE) : -1].decode()), (at, len(payload) - 1)
    except ValueError:
        return None


def _member_span(text: str, name: str) -> tuple[int, int]:
    """Return which bytes to cut out for one member of the outermost object, one comma included."""
    members = _members(text)
    position = max(index for index, member in enumerate(members) if member[0] == name)
    _, start, end = members[position]
    if position + 1 < len(members):
        end = members[position + 1][1]
    elif position > 0:
        start = members[position - 1][2]
    return len(text[:start].encode()), len(text[:end].encode())


def _members(text: str) -> list[tuple[Any, int, int]]:
    """Return (name, start, end) of each member of the JSON object that the text is known to hold."""
    members: list[tuple[Any, int, int]] = []
    at = WHITESPACE.match(text, text.index("{") + 1).end()
    while text[at] != "}":
        start = at
        member, at = _decoder.raw_decode(text, at)
        at = WHITESPACE.match(text, at).end() + 1  # the colon
        _, end = _decoder.raw_decode(text, WHITESPACE.match(text, at).end())
        members.append((member, start, end))
        at = WHITESPACE.match(text, end).end()
        if text[at] == ",":
            at = WHITESPACE.match(text, at + 1).end()
    return members
