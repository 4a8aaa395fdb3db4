"""NVIDIA's local repository packages: one deb or rpm that holds a whole package repository and its key.

The chain is checked from the recipe downwards: the file is what its SHA-256 says; the key that the
recipe names by fingerprint is in it; and only that key is handed on, so that whatever reads the
repository afterwards (apt, rpmkeys) accepts nothing that another key signed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundles.errors import SourceFailed
from bundles.sources.commands import run_bytes, tail
from bundles.sources.driver_set import Archive

_KEY_NAMES = ("*.gpg", "*.asc", "*.pub", "RPM-GPG-KEY*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRepository:
    """An unpacked repository: the folder that holds its index, and the one key that may have signed it."""

    folder: Path
    key: Path


def unpack(archive: Archive, *, folder: Path, into: Path) -> LocalRepository:
    """Check `archive`, which lies in `folder`, and unpack it below `into`; done before, it is checked again.

    Raises SourceFailed for other bytes than the pinned ones, a missing key, or a package of another shape.
    """
    file = folder / archive.file
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != archive.sha256:
        raise _wrong(f"{file} has SHA-256 {found}; the driver set names {archive.sha256}")
    tree = into / archive.sha256
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    if file.suffix == ".deb":
        run_bytes(["dpkg-deb", "--extract", str(file), str(tree)])
    else:
        _extract_rpm(file, tree)
    key = tree / "leeward-allowed-key.asc"
    key.write_bytes(pinned_key(tree, archive.key, named=archive.file))
    return LocalRepository(folder=_index_folder(tree, archive), key=key)


def pinned_key(tree: Path, fingerprint: str, *, named: str) -> bytes:
    """Return the key with `fingerprint` from the key files in `tree`, alone and armored. Raises SourceFailed."""
    with tempfile.TemporaryDirectory(prefix="leeward-gpg-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-tty"]
        files = list(_key_files(tree))
        for file in files:
            subprocess.run([*gpg, "--import", str(file)], check=False, capture_output=True)  # noqa: S603  a fixed program; a file that is no key is no fault
        key = run_bytes([*gpg, "--armor", "--export-options", "export-minimal", "--export", fingerprint])
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)  # noqa: S603, S607  comes with gpg
    if not key:
        names = ", ".join(file.name for file in files) or "no key file"
        raise _wrong(f"{named} holds {names}, and in that no key with fingerprint {fingerprint}")
    return key


def _index_folder(tree: Path, archive: Archive) -> Path:
    """Return the one folder with an index: `Release` in NVIDIA's flat debs, `repodata/` in its rpms."""
    marks = [path.parent for path in tree.rglob("Release")]
    marks += [path.parent.parent for path in tree.rglob("repomd.xml")]
    if len(marks) != 1:
        raise _wrong(f"{archive.file} holds {len(marks)} package repositories, where exactly one is expected")
    return marks[0]


def _key_files(tree: Path) -> Iterator[Path]:
    for pattern in _KEY_NAMES:
        yield from sorted(path for path in tree.rglob(pattern) if path.is_file())


def _extract_rpm(file: Path, tree: Path) -> None:
    with subprocess.Popen(["rpm2cpio", str(file)], stdout=subprocess.PIPE) as reading:  # noqa: S603, S607  found on PATH, as every tool
        command = ["cpio", "--extract", "--make-directories", "--quiet", "--no-absolute-filenames"]
        written = subprocess.run(command, stdin=reading.stdout, cwd=tree, capture_output=True, check=False)  # noqa: S603  a fixed program
    if reading.returncode or written.returncode:
        raise _wrong(f"{file} could not be unpacked: {tail(written.stderr.decode(errors='replace'))}")


def _wrong(detail: str) -> SourceFailed:
    return SourceFailed(
        detail=detail,
        remedy="Do not build with it: get the file from NVIDIA again, and compare the driver set with NVIDIA's page.",
    )
