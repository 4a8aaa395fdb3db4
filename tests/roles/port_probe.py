"""Asks every port of a node from where this process is, as a scanner in its neighbourhood would."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

PORTS = range(1, 65536)
_BATCH = 16384
_WAIT_S = 1.5
"""Long enough for a SYN to be repeated once, which is after a second (RFC 6298)."""


def open_tcp_ports(address: str) -> frozenset[int]:
    """Return the ports that take a connection."""
    return frozenset(port for port, error in _answers(address, socket.SOCK_STREAM) if error == 0)


def answering_udp_ports(address: str) -> frozenset[int]:
    """Return the ports from which anything came back, be it that nobody listens there (ICMP)."""
    return frozenset(port for port, _ in _answers(address, socket.SOCK_DGRAM))


def _answers(address: str, kind: socket.SocketKind) -> Iterator[tuple[int, int]]:
    """Yield each port that answers, with the error that it answers with, or 0."""
    with _many_files():
        for first in range(0, len(PORTS), _BATCH):
            with ExitStack() as stack:
                asked: dict[int, tuple[int, socket.socket]] = {}
                poll = select.epoll()
                stack.callback(poll.close)
                for port in PORTS[first : first + _BATCH]:
                    asking = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    asking.settimeout(0)
                    asking.connect_ex((address, port))
                    wanted = select.EPOLLOUT if kind is socket.SOCK_STREAM else select.EPOLLIN
                    if kind is socket.SOCK_DGRAM:
                        asking.send(b"\0")
                    asked[asking.fileno()] = port, asking
                    poll.register(asking, wanted | select.EPOLLERR)
                yield from _collected(poll, asked)


def _collected(poll: select.epoll, asked: dict[int, tuple[int, socket.socket]]) -> Iterator[tuple[int, int]]:
    end = time.monotonic() + _WAIT_S
    while asked and (left := end - time.monotonic()) > 0:
        for handle, _ in poll.poll(left, maxevents=_BATCH):
            port, asking = asked.pop(handle)
            poll.unregister(handle)
            yield port, asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


@contextmanager
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * _BATCH)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
