"""A caller's connection: uvicorn's, with a straight way through for the chunks of a stream.

uvicorn reads requests, begins and ends answers, and keeps the connection alive. Between the two, a
stream's chunks are written here, with no coroutine for each; who relays hears when the caller
leaves and when it reads too slowly.
"""

from __future__ import annotations

from typing import Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.entrypoints.gateway.answers import Scope

_FAREWELL_S = 1.0
_EXTENSION = "leeward.caller"


class Relay(Protocol):
    """Who writes to a caller. Called from the event loop; none may block."""

    def caller_left(self) -> None: ...

    def caller_is_full(self) -> None:
        """The caller reads more slowly than is written to it."""
        ...

    def caller_has_room(self) -> None: ...


class CallerConnection(HttpToolsProtocol):
    """One connection of a caller. It does not hold up a restart.

    uvicorn closes an idle connection and waits; under TLS that waits for the peer's own farewell,
    which a pooled client reads only at its next request.
    """

    relay: Relay | None = None
    is_gone = False

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.scope["extensions"] = {_EXTENSION: self}  # type: ignore[dict-item]  # ours, beside ASGI's own

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        super().connection_lost(exc)
        if self.relay is not None:
            self.relay.caller_left()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.relay is not None:
            self.relay.caller_is_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.relay is not None:
            self.relay.caller_has_room()

    def write_chunk(self, piece: bytes) -> None:
        """Write one chunk (RFC 9112, section 7.1) of an answer that was begun without a length."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def shutdown(self) -> None:
        super().shutdown()
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_FAREWELL_S, self.transport.abort)
        else:
            self.loop.call_later(_FAREWELL_S, self._close_when_idle)


def caller_of(scope: Scope) -> CallerConnection:
    """Return the connection that a request came in on."""
    caller: CallerConnection = scope["extensions"][_EXTENSION]
    return caller
