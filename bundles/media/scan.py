"""Ask a site's own scanner about a mounted volume before anything is imported from it.

The command is configured by the site, for example `clamdscan --no-summary --fdpass`; the volume's
folder is its last argument. By the habit of such tools, exit status 0 says clean and 1 says found;
anything else is no verdict. What it says is kept, up to a limit, for the custody receipt.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundles.errors import ScanFailed, ScanRefused

TIMEOUT_S = 6 * 3600.0
MAX_SAID_CHARACTERS = 2000
_FOUND = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanVerdict:
    """A clean verdict: the command as it was run, and the end of what it said."""

    command: tuple[str, ...]
    said: str


def scan(volume: Path, command: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> ScanVerdict:
    """Run `command` on the mounted volume.

    Raises ScanRefused where it found something, ScanFailed where it gave no verdict. Changes nothing.
    """
    words = (*command, str(volume))
    try:
        done = subprocess.run(  # noqa: S603  the site's own configured command
            words, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except OSError as error:
        raise _failed(words, f"could not be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise _failed(words, f"gave no verdict in {timeout_s:,.0f} s") from error
    said = f"{done.stdout}{done.stderr}".strip()[-MAX_SAID_CHARACTERS:]
    if done.returncode == _FOUND:
        raise ScanRefused(
            detail=f"{' '.join(words)}: {said}",
            remedy="Keep the volume for whoever is responsible for such findings; import nothing from it.",
        )
    if done.returncode:
        raise _failed(words, f"ended with status {done.returncode}: {said}")
    return ScanVerdict(command=words, said=said)


def _failed(words: Sequence[str], why: str) -> ScanFailed:
    return ScanFailed(
        detail=f"{' '.join(words)} {why}",
        remedy="Run this command by hand on the mounted volume, correct the configuration, then import again.",
    )
