"""The daemon's process: one lock, one socket, and a stop that loses nothing."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from appliance.domain.errors import ConfigInvalid, StateUnusable
from appliance.entrypoints.management.peers import PeerProtocol
from appliance.services.operations import Operations

STOP_TIMEOUT_S = 20.0
CLIENTS_TIMEOUT_S = 2


class _Server(uvicorn.Server):
    """uvicorn's server that tells the operations first when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, operations: Operations) -> None:
        super().__init__(config)
        self._operations = operations

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the service manager once the socket is served."""
        await super().startup(sockets)
        notify_service_manager("READY=1")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  a signal handler's signature
        """Stop in order; unlike uvicorn's own, the signal is not raised again afterwards."""
        self._operations.begin_stop()
        self.should_exit = True


def serve(app: FastAPI, operations: Operations, path: Path) -> None:
    """Serve until SIGTERM or SIGINT; resumes what was unfinished, leaves a running operation resumable."""
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLIENTS_TIMEOUT_S,
    )
    with listening(path) as listener:
        operations.resume()
        _Server(config, operations).run(sockets=[listener])
        notify_service_manager("STOPPING=1")
        operations.begin_stop()
        operations.join(STOP_TIMEOUT_S)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock that makes this the only daemon on this state; raises StateUnusable.

    The kernel drops the lock with the process, so a kill leaves nothing to clean up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateUnusable(
                detail=f"Another management daemon holds {path}.",
                remedy="Stop it first: `systemctl stop leewardd`.",
            ) from error
        yield


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Give a listening Unix socket that anyone may connect to; call it under the lock."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(path))
        except OSError as error:
            raise ConfigInvalid(
                detail=f"{path} cannot be bound: {error}.", remedy="Use a shorter path for the root folder."
            ) from error
        path.chmod(0o666)
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def notify_service_manager(state: str) -> None:
    """Speak sd_notify(3): one datagram to $NOTIFY_SOCKET, where there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
        sender.sendto(state.encode(), address)
