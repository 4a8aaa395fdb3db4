"""Python environments of clients whose pins conflict with ours, under the ignored `.build/`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / ".build"
PYTHONS = {"frameworks": "3.11", "vibe": "3.12"}


def environment(name: str) -> Path:
    """Return the environment of `requirements-<name>.txt`; make it if it is not there or is stale.

    Skips the test, and says so, where this machine has no Python of the version it needs.
    """
    requirements = HERE / f"requirements-{name}.txt"
    folder = BUILD / f"clients-{name}"
    stamp = folder / "requirements.sha256"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    uv = Path(sys.executable).with_name("uv")
    run([str(uv), "venv", "--quiet", "--clear", "--python", _python(uv, PYTHONS[name]), str(folder)])
    run(
        [
            str(uv),
            "pip",
            "install",
            "--quiet",
            "--python",
            str(folder / "bin/python"),
            "--requirement",
            str(requirements),
        ]
    )
    stamp.write_text(digest)
    return folder


def _python(uv: Path, version: str) -> str:
    """Find an interpreter that runs; a shim of a version manager may be found that does not."""
    offline = [str(uv), "python", "find", "--no-python-downloads", "--system", version]
    found = subprocess.run(offline, check=False, capture_output=True, text=True).stdout.strip()
    for candidate in (
        found,
        shutil.which(f"python{version}"),
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ):
        if candidate and subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
            return candidate
    pytest.skip(f"this machine has no Python {version}")


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
