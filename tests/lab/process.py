"""Runs the machine's tools for the lab, and says in full what failed."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.errors import LabFailed

_TAIL_CHARACTERS = 2000


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    input: str | None = None,  # noqa: A002 - the name that subprocess.run has for it
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end and return what it printed.

    Raises:
        LabFailed: it exited with another status than 0 (only with `check`), or ran out of time.
    """
    words = [str(word) for word in argv]
    stdin = None if input is not None else subprocess.DEVNULL
    try:
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, input=input, stdin=stdin, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as late:
        raise LabFailed(
            detail=f"`{shlex.join(words)}` had not ended after {timeout_s:g} s",
            remedy="Look at the node's console.log in the lab's folder.",
        ) from late
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-_TAIL_CHARACTERS:]
        raise LabFailed(
            detail=f"`{shlex.join(words)}` exited {done.returncode}: {said}",
            remedy="Run the command by hand; `python -m tests.lab sweep` clears what a crashed run left.",
        )
    return done


def spawn(argv: Sequence[str | Path], *, log: Path, cwd: Path) -> None:
    """Start a command that outlives this process and is nobody's child here; returns at once."""
    with log.open("wb") as output:
        subprocess.run(
            ["setsid", "--fork", *map(str, argv)],
            check=True,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_until(condition: Callable[[], bool], *, timeout_s: float, every_s: float = 0.05) -> bool:
    """Ask `condition` again and again; False when it was still false after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True


@contextmanager
def connected(folder: Path, name: str) -> Iterator[socket.socket]:
    """Connect to a Unix socket in a folder, however long the folder's path is: a socket's may have 107 bytes."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(f"/proc/self/fd/{handle}/{name}")
            yield connection
    finally:
        os.close(handle)
