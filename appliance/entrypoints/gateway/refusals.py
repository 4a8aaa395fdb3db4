"""Why the gateway does not take a request, whatever is in it."""

from __future__ import annotations

from appliance.entrypoints.gateway.answers import Header


class ClientGone(Exception):
    """The caller left before its request was taken."""


class Refusal(Exception):
    """The gateway does not take this request now."""

    def __init__(self, status: int, message: str, *, code: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers
