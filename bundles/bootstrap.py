"""The day-0 script of a medium: one file whose SHA-256 travels on paper.

The script carries the SHA-256 of each file that it uses before the verifier can run (the
appliance's wheels and, where the node lacks `python3-venv`, packages from the bundle's own signed
repository) and the fingerprint of the trusted root. Who compares the script with the paper has
therefore compared everything that runs on day 0.
"""

from __future__ import annotations

import hashlib
import os
import re
from importlib.resources import files
from pathlib import Path

from bundles.errors import RecipeInvalid
from bundles.release import FileEntry, Release

_SAFE = re.compile(r"[A-Za-z0-9._+~@/-]+")
_WHEEL_VERSION = re.compile(r"appliance/wheels/leeward-([A-Za-z0-9.+]+)-py3-none-any\.whl")
DAY0 = ("appliance/", "os/debian-12/")
"""What the script takes off the medium itself, before the verifier can run."""
_UNPACKED_FACTOR = 6
"""Room asked for per byte of appliance wheel: the copy, the unpacked environment and a margin."""


def render(release: Release, root_json: bytes) -> bytes:
    """Return the script for `release`.

    Raises:
        RecipeInvalid: the release has no appliance wheel, or a name that does not belong in a script.
    """
    entries = tuple(entry for entry in release.files if entry.path.startswith(DAY0))
    for text in (release.name, release.version, *(entry.path for entry in entries)):
        if not _SAFE.fullmatch(text):
            raise RecipeInvalid(
                detail=f"{text!r} has characters that the day-0 script does not take.",
                remedy="Use letters, digits and . _ + ~ @ - in names.",
            )
    values = {
        "RELEASE": f"{release.name} {release.version}",
        "APPLIANCE": _appliance_version(entries),
        "ROOT_FINGERPRINT": hashlib.sha256(root_json).hexdigest(),
        "NEEDED_BYTES": str(
            _UNPACKED_FACTOR * sum(entry.size_bytes for entry in entries if entry.path.startswith("appliance/"))
        ),
        "LIST": "\n".join(f"{entry.sha256} {entry.size_bytes} {entry.path}" for entry in entries),
    }
    template = files("bundles").joinpath("bootstrap.sh").read_text(encoding="utf-8")
    return re.sub(r"@([A-Z0-9_]+)@", lambda match: values[match[1]], template).encode()


def write(out: Path, release: Release, root_json: bytes) -> str:
    """Write the script to `out/bootstrap` and return its SHA-256 (hex).

    Raises:
        RecipeInvalid: as `render`.
    """
    script = render(release, root_json)
    with (out / "bootstrap").open("wb") as stream:
        stream.write(script)
        stream.flush()
        os.fsync(stream.fileno())
    return hashlib.sha256(script).hexdigest()


def _appliance_version(entries: tuple[FileEntry, ...]) -> str:
    for entry in entries:
        if match := _WHEEL_VERSION.fullmatch(entry.path):
            return match[1]
    raise RecipeInvalid(
        detail="The release holds no appliance/wheels/leeward-<version>-py3-none-any.whl.",
        remedy='Add contents with source = { kind = "appliance" } to the recipe.',
    )
