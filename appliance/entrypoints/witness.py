"""Starts the engine and watches the one way to others that no firewall sees: Unix sockets.

    python3 -I witness.py PROGRAM [ARGUMENT...]

The engine's packets are counted by the trap in its network (role `engine_vllm`). Unix sockets send
no packets, so the kernel is asked to stop at each connect(2), and at each sendto(2) with an address,
of the program and all that it starts, until this process has read the address (seccomp_unotify(2)).
It never decides: the call goes on, and the sandbox refuses it or not. What is not the engine's own,
a name in the abstract namespace that none of its processes has bound, or a path outside its folders,
is written to standard error as one line that begins with `leeward-witness`: the first time, and
again at each tenfold of the count. The journal keeps the lines and stamps them with the unit.

It runs with the node's own Python and nothing but its library, as the parent of the program and the
unit's main process: if it dies, systemd ends the unit. What it cannot see: a datagram's address in
sendmsg(2), which a filter cannot read; the name is in the engine's own namespace then too. A program
may change the address between the look and the call; then another one is recorded, but something is.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections import Counter
from contextlib import suppress
from types import FrameType
from typing import Final, NoReturn

OWN_FOLDERS: Final = ("/run/leeward-engine/", "/var/cache/leeward-engine/", "/tmp/", "/dev/shm/")  # noqa: S108  the unit's own private /tmp
LIBRARY_DOORS: Final = ("/var/run/nscd/socket", "/run/uuidd/request")
"""glibc and libuuid knock there by themselves, whether anything listens or not; here nothing does."""
MOST_NAMES: Final = 1_000
LINE: Final = "leeward-witness"

_CONNECT, _SENDTO, _SECCOMP = 42, 44, 317  # x86-64's numbers, arch/x86/entry/syscalls/syscall_64.tbl
_X86_64: Final = 0xC000003E
_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 1 << 3, 1 << 5  # linux/seccomp.h; the last since Linux 5.19
_ALLOW, _USER_NOTIF = 0x7FFF0000, 0x7FC00000
_RECV, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_NOTICE: Final = struct.Struct("=QIIiIQ6Q")
_ANSWER: Final = struct.Struct("=QqiI")
_LONGEST_ADDRESS: Final = 128
_PR_SET_NO_NEW_PRIVS: Final = 38
_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main() -> NoReturn:
    """Run a program under watch and end as it ends."""
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        here.close()
        _become_watched(there, sys.argv[1:])
    there.close()
    _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
    if not descriptors:
        os.waitpid(child, 0)
        sys.exit("leeward-witness: the kernel gives no listener; the program was not started")

    def forward(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    status = _watch(child, descriptors[0], Record())
    if os.WIFSIGNALED(status):
        with suppress(OSError):  # SIGKILL has no handler to take away
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


class Record:
    """What was tried, and how often; says each name at its first, tenth, hundredth... time."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> str | None:
        """Count a try; returns the line to say, if any."""
        if name not in self._counts and len(self._counts) >= MOST_NAMES:
            name = "(more names than can be kept)"
        self._counts[name] += 1
        count = self._counts[name]
        if count != 10 ** (len(str(count)) - 1):
            return None
        return f"{LINE} {json.dumps({'name': name, 'count': count})}"


def foreign_name(address: bytes, bound: frozenset[str]) -> str | None:
    """Return how a socket address outside the engine's own is called; `None` for its own and for other families.

    An abstract name is written with an @ for its leading zero, as in /proc/net/unix. `bound` are the
    names that are bound in the engine's network.
    """
    if len(address) < 3 or struct.unpack_from("=H", address)[0] != socket.AF_UNIX:  # noqa: PLR2004  family, then a name
        return None
    raw = address[2:]
    if raw[0] == 0:
        name = "@" + raw[1:].replace(b"\0", b"@").decode("utf-8", "backslashreplace")
        return None if name in bound else name
    path = os.path.normpath(raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace"))
    is_own = path.startswith(OWN_FOLDERS) or not path.startswith("/") or path in LIBRARY_DOORS
    return None if is_own else path


def bound_names(table: str) -> frozenset[str]:
    """Return the names in /proc/net/unix, abstract ones with their @."""
    lines = (line.split(None, 7) for line in table.splitlines()[1:])
    return frozenset(words[7] for words in lines if len(words) > 7)  # noqa: PLR2004  the eighth column, where there is a name


def _watch(child: int, listener: int, record: Record) -> int:
    """Answer the kernel until the program has ended; returns its wait status."""
    process = os.pidfd_open(child)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(process, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if ready.get(listener, 0) & select.POLLIN:
            _answer(listener, record)
        elif listener in ready:
            poll.unregister(listener)
        elif process in ready:
            return os.waitpid(child, 0)[1]


def _answer(listener: int, record: Record) -> None:
    notice = bytearray(_NOTICE.size)
    try:
        fcntl.ioctl(listener, _RECV, notice)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EINTR}:  # the caller was killed meanwhile
            return
        raise
    cookie, process, _, number, _, _, *arguments = _NOTICE.unpack(notice)
    place, length = (arguments[1], arguments[2]) if number == _CONNECT else (arguments[4], arguments[5])
    name = foreign_name(_memory(process, place, min(length, _LONGEST_ADDRESS)), _bound())
    line = None if name is None else record.add(name)
    if line is not None:
        os.write(2, f"{line}\n".encode())
    with suppress(OSError):  # the caller was killed meanwhile
        fcntl.ioctl(listener, _SEND, _ANSWER.pack(cookie, 0, 0, _CONTINUE))


def _memory(process: int, place: int, length: int) -> bytes:
    try:
        with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:  # noqa: PTH123  no pathlib on this hot path
            memory.seek(place)
            return memory.read(length)
    except (OSError, ValueError, OverflowError):  # gone, or not an address: the call itself will fail
        return b""


def _bound() -> frozenset[str]:
    with open("/proc/net/unix", encoding="utf-8", errors="backslashreplace") as table:  # noqa: PTH123  see above
        return bound_names(table.read())


def _become_watched(there: socket.socket, command: list[str]) -> NoReturn:
    """Install the filter, hand its listener to the parent, and become the program."""
    try:
        listener = _install_filter()
        socket.send_fds(there, [b"x"], [listener])
        os.close(listener)
        there.close()
        os.execv(command[0], command)  # noqa: S606  the unit's own command line, no shell
    except OSError as error:
        os.write(2, f"leeward-witness: {command[0]}: {error}\n".encode())
        os._exit(127)


def _install_filter() -> int:
    instructions = _filter()
    program = ctypes.create_string_buffer(b"".join(instructions))
    header = ctypes.create_string_buffer(struct.pack("=H6xQ", len(instructions), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    libc.syscall.restype = ctypes.c_long
    listener = int(libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, header))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _filter() -> list[bytes]:
    """Return the classic BPF program (linux/filter.h: code, jump if true, jump if false, constant)."""
    load, equal, end = 0x20, 0x15, 0x06
    lines = [
        (load, 0, 0, 4),  # the architecture
        (equal, 0, 7, _X86_64),
        (load, 0, 0, 0),  # the call's number
        (equal, 6, 0, _CONNECT),
        (equal, 0, 4, _SENDTO),
        (load, 0, 0, 48),  # the address that sendto has, low half
        (equal, 0, 3, 0),
        (load, 0, 0, 52),  # high half
        (equal, 0, 1, 0),
        (end, 0, 0, _ALLOW),
        (end, 0, 0, _USER_NOTIF),
    ]
    return [struct.pack("=HBBI", *line) for line in lines]


if __name__ == "__main__":
    main()
