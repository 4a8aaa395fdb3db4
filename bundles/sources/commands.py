"""Tools of the build host, run to their end; what fails says what the tool said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundles.errors import SourceFailed

REMEDY = "Check the mirror and the recipe's package names and versions, then build again; it resumes."


def require_tools(tools: Mapping[str, str]) -> None:
    """Raise SourceFailed where a command (key) is missing; it names the Debian packages (values)."""
    missing = sorted({package for tool, package in tools.items() if shutil.which(tool) is None})
    if missing:
        raise SourceFailed(
            detail=f"this build host lacks {', '.join(missing)}",
            remedy=f"On a Debian build host: apt-get install {' '.join(missing)}",
        )


def tail(errors: str) -> str:
    """Return the last lines of what a tool said."""
    return " ".join(line.strip() for line in errors.strip().splitlines()[-4:]) or "it said nothing"


def run(command: Sequence[str], *, cwd: Path | None = None, remedy: str = REMEDY) -> str:
    """Return what the tool printed; raises SourceFailed."""
    return run_bytes(command, cwd=cwd, remedy=remedy).decode(errors="replace")


def run_bytes(command: Sequence[str], content: bytes = b"", *, cwd: Path | None = None, remedy: str = REMEDY) -> bytes:
    """Give `content` to the tool and return what it printed; raises SourceFailed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(  # noqa: S603  fixed programs, lists of arguments
        command, cwd=cwd, input=content, capture_output=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise SourceFailed(
            detail=f"{command[0]} exited {done.returncode}: {tail(done.stderr.decode(errors='replace'))}",
            remedy=remedy,
        )
    return done.stdout
