"""A hash-locked folder of wheels: read a lock, fetch what it pins, write the lock of what is shipped.

Used by the `wheels` and `appliance` sources. Wheels come through pip with the machine's own pip
configuration; the hash in the lock, not the place, says what is right. Fetched wheels stay in the
cache, so that a build that was stopped goes on where it was.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext

BATCH = 16
"""Wheels for one call of pip: a stopped build loses at most this many."""

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!_-]+)(?P<rest>.*)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?!\S)")
_LOG_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One line of a lock: normalized name (PEP 503), exact version, allowed SHA-256 digests."""

    name: str
    version: str
    sha256: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def line(self) -> str:
        """The pin as pip reads it."""
        return " ".join((str(self), *(f"--hash=sha256:{digest}" for digest in sorted(self.sha256))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel file that has been verified, or was made here."""

    path: Path
    name: str
    version: str
    sha256: str

    @property
    def pin(self) -> Pin:
        """The pin that allows exactly this wheel."""
        return Pin(name=self.name, version=self.version, sha256=frozenset({self.sha256}))


def read_lock(text: str, *, origin: str) -> tuple[Pin, ...]:
    """Read a requirements file in which every line is `name==version` with SHA-256 hashes.

    Raises RecipeInvalid for anything else: options, index addresses, URLs, markers, missing hashes,
    a package named twice.
    """
    pins: dict[str, Pin] = {}
    for line in _logical_lines(text):
        match = _PIN.fullmatch(line)
        digests = frozenset(_HASH.findall(line))
        if match is None or not digests or _HASH.sub("", match["rest"]).strip():
            raise _invalid_lock(origin, f"not `name==version --hash=sha256:...`: {line[:120]!r}")
        pin = Pin(name=normalized(match["name"]), version=match["version"], sha256=digests)
        if pin.name in pins:
            raise _invalid_lock(origin, f"{pin.name} is pinned twice")
        pins[pin.name] = pin
    if not pins:
        raise _invalid_lock(origin, "it pins nothing")
    return tuple(pins[name] for name in sorted(pins))


def normalized(name: str) -> str:
    """Return a package name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def require_target_python() -> None:
    """Raise SourceFailed unless this interpreter picks the wheels that a node needs."""
    seen = (platform.python_implementation(), sys.version_info[:2], sys.platform, platform.machine())
    if seen != ("CPython", (3, 11), "linux", "x86_64"):
        raise SourceFailed(
            detail=f"wheels for a node are picked by CPython 3.11 on Linux x86-64; this is {seen}",
            remedy="Build on Debian 12 or another x86-64 Linux with Python 3.11.",
        )


class Wheelhouse:
    """Fetches pinned wheels through pip into `context.cache/wheels`."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._cache = context.cache / "wheels"
        self._cache.mkdir(parents=True, exist_ok=True)

    def fetch(self, pins: Sequence[Pin], *, allow_builds: bool = False) -> list[Wheel]:
        """Return one verified wheel for each pin, from the cache or through pip.

        With `allow_builds`, a package that has only a source archive (hash-checked too) is built into
        a wheel. Raises SourceFailed with pip's last lines.
        """
        require_target_python()
        found = {pin.name: wheel for pin in pins if (wheel := self._cached(pin)) is not None}
        missing = [pin for pin in pins if pin.name not in found]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            self._context.progress("wheels", len(pins) - len(missing) + start, len(pins))
            found |= {wheel.name: wheel for wheel in self._obtain(batch, allow_builds=allow_builds)}
        self._context.progress("wheels", len(pins), len(pins))
        return [found[pin.name] for pin in pins]

    def _cached(self, pin: Pin) -> Wheel | None:
        stem = pin.name.replace("-", "_")
        built = self._built_folder(pin)
        for folder in (self._cache, built):
            for path in sorted(folder.glob(f"*-{pin.version}-*.whl")):
                if normalized(path.name.partition("-")[0]) != normalized(stem):
                    continue
                digest = sha256_of(path)
                if folder == built or digest in pin.sha256:
                    return Wheel(path=path, name=pin.name, version=pin.version, sha256=digest)
        return None

    def _built_folder(self, pin: Pin) -> Path:
        """Where wheels built from this pin's source archive lie: named by the pin, hashes included."""
        return self._cache / "built" / hashlib.sha256(pin.line.encode()).hexdigest()

    def _obtain(self, pins: Sequence[Pin], *, allow_builds: bool) -> list[Wheel]:
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=".fetch-") as scratch:
            folder = Path(scratch)
            lock = folder / "batch.txt"
            lock.write_text("".join(f"{pin.line}\n" for pin in pins), encoding="utf-8")
            verb = ["wheel", "--wheel-dir"] if allow_builds else ["download", "--only-binary", ":all:", "--dest"]
            run_pip([*verb, scratch, "--no-deps", "--require-hashes", "--requirement", str(lock)])
            arrived = {normalized(path.name.partition("-")[0]): path for path in folder.glob("*.whl")}
            return [self._keep(pin, arrived.get(pin.name), allow_builds=allow_builds) for pin in pins]

    def _keep(self, pin: Pin, path: Path | None, *, allow_builds: bool) -> Wheel:
        digest = sha256_of(path) if path is not None else ""
        if path is None or (digest not in pin.sha256 and not allow_builds):
            raise SourceFailed(
                detail=f"pip delivered no wheel of {pin} with a pinned hash",
                remedy="Check the package index that pip is set up to use, then build again.",
            )
        folder = self._cache if digest in pin.sha256 else self._built_folder(pin)
        folder.mkdir(parents=True, exist_ok=True)
        kept = path.replace(folder / path.name)
        return Wheel(path=kept, name=pin.name, version=pin.version, sha256=digest)


def ship(wheels: Iterable[Wheel], into: Path) -> None:
    """Fill `into` with `wheels/*.whl` and the `requirements.lock` that allows exactly these."""
    folder = into / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(wheels, key=lambda wheel: wheel.name)
    for wheel in ordered:
        place = folder / wheel.path.name
        place.unlink(missing_ok=True)
        try:
            os.link(wheel.path, place)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(wheel.path, place)
    (into / "requirements.lock").write_text("".join(f"{wheel.pin.line}\n" for wheel in ordered), encoding="utf-8")


def write_wheel(folder: Path, *, name: str, version: str, files: Mapping[str, bytes]) -> Wheel:
    """Write a pure-Python wheel whose bytes depend on its content only; RECORD is added.

    Members are stored uncompressed and dated 1980-01-01, so that no zlib version shows in the hash.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{member},sha256={_record_digest(files[member])},{len(files[member])}\n" for member in sorted(files)]
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member in sorted(files):
            archive.writestr(_member(member), files[member])
        archive.writestr(_member(record), "".join([*lines, f"{record},,\n"]))
    return Wheel(path=path, name=name, version=version, sha256=sha256_of(path))


def run_pip(arguments: Sequence[str]) -> None:
    """Run pip quietly; raises SourceFailed with its last lines."""
    command = [*_pip(), "--quiet", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  fixed program, own arguments
    if done.returncode != 0:
        tail = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        raise SourceFailed(
            detail=f"pip {arguments[0]} exited {done.returncode}: {_last_lines(tail)}",
            remedy="Check pip's configuration and the network of this build host, then build again: "
            "what has arrived is kept.",
        )


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    if not base.exists():
        raise SourceFailed(
            detail=f"there is no pip in {sys.prefix} and no {base}",
            remedy="Install the `build` extra of Leeward, which brings pip.",
        )
    return [str(base), "-m", "pip"]


def _logical_lines(text: str) -> Iterator[str]:
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if bare:
            yield bare


def _invalid_lock(origin: str, reason: str) -> RecipeInvalid:
    return RecipeInvalid(
        detail=f"lock {origin}: {reason}",
        remedy="Lock again with exact versions and hashes only: `name==version --hash=sha256:...`.",
    )


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    member.external_attr = 0o644 << 16
    return member


def _record_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _last_lines(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-_LOG_LINES:])
