"""Ask a site's own scanner about a mounted volume before anything is imported from it.

The command is configured by the site, for example `clamdscan --no-summary --fdpass`; the volume's
folder is its last argument. By the habit of such tools, exit status 0 says clean and 1 says found;
anything else is no verdict. What it says is kept, up to a limit, for the custody receipt.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from bundles.errors import Canceled, ScanFailed, ScanRefused
from bundles.transfer import IsCanceled, never

TIMEOUT_S = 6 * 3600.0
MAX_SAID_CHARACTERS = 2000
_LOOK_S = 0.5
_FOUND = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanVerdict:
    """A clean verdict: the command as it was run, and the end of what it said."""

    command: tuple[str, ...]
    said: str


def scan(
    volume: Path, command: Sequence[str], *, timeout_s: float = TIMEOUT_S, is_canceled: IsCanceled = never
) -> ScanVerdict:
    """Run `command` on the mounted volume, whose absolute path is its last argument.

    Raises ScanRefused where it found something, ScanFailed where it gave no verdict, Canceled; then the
    command and what it has started is ended. Changes nothing.
    """
    words = (*command, str(volume.absolute()))
    with TemporaryFile() as output:
        status = _status(words, output, timeout_s, is_canceled)
        said = _end_of(output)
    if status == _FOUND:
        raise ScanRefused(
            detail=f"{' '.join(words)}: {said}",
            remedy="Keep the volume for whoever is responsible for such findings; import nothing from it.",
        )
    if status:
        raise _failed(words, f"ended with status {status}: {said}")
    return ScanVerdict(command=words, said=said)


def _status(words: Sequence[str], output: IO[bytes], timeout_s: float, is_canceled: IsCanceled) -> int:
    """Run a command to its end and return its exit status; its words go into `output`."""
    try:
        process = subprocess.Popen(  # noqa: S603  the site's own configured command
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    except OSError as error:
        raise _failed(words, f"could not be started: {error.strerror}") from error
    deadline_s = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline_s:
            try:
                return process.wait(min(_LOOK_S, timeout_s))
            except subprocess.TimeoutExpired:
                if is_canceled():
                    raise Canceled(
                        detail="asked to stop while a volume was scanned", remedy="Import again when it suits."
                    ) from None
        raise _failed(words, f"gave no verdict in {timeout_s:,.0f} s")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end_of(output: IO[bytes]) -> str:
    """Return the last characters of what a command said."""
    most = 4 * MAX_SAID_CHARACTERS  # bytes of UTF-8
    output.seek(max(0, output.seek(0, os.SEEK_END) - most))
    return output.read(most).decode("utf-8", "replace").strip()[-MAX_SAID_CHARACTERS:]


def _failed(words: Sequence[str], why: str) -> ScanFailed:
    return ScanFailed(
        detail=f"{' '.join(words)} {why}",
        remedy="Run this command by hand on the mounted volume, correct the configuration, then import again.",
    )
