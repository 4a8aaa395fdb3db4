"""What the gateway itself says to a caller, in the shapes that OpenAI's and Mistral's clients read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
RETRY_AFTER: Header = (b"retry-after", b"5")
CLOSE: Header = (b"connection", b"close")
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def error_object(status: int, message: str, *, code: str, param: str | None = None) -> dict[str, object]:
    """Return OpenAI's error object, and beside it the same as Mistral's clients read it."""
    error = {"message": message, "type": _TYPES.get(status, "server_error"), "param": param, "code": code}
    return {"error": error, "object": "error", **error}


def error_body(status: int, message: str, *, code: str, param: str | None = None) -> bytes:
    """Return the error object as JSON."""
    return json.dumps(error_object(status, message, code=code, param=param)).encode()


def error_event(message: str, *, code: str) -> bytes:
    """Return the end of a stream that broke, as vLLM and OpenAI's clients know it."""
    return b"data: %b\n\ndata: [DONE]\n\n" % error_body(502, message, code=code)


async def send_answer(send: Send, status: int, body: bytes, headers: Iterable[Header] = ()) -> None:
    """Send one whole JSON answer."""
    start = [JSON, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
