"""Name, version, licence and licence texts of a wheel or a Debian package, from its own metadata.

Nothing is unpacked to disk and every read is bounded. What a package does not say stays unsaid: an
unknown licence is recorded as unknown, never guessed. Formats: PyPA core metadata 2.4, deb(5),
Debian's machine-readable copyright file (DEP-5).
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import IO

from bundles.errors import SourceFailed

MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_TEXTS = 100
MAX_MEMBERS = 500_000
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_TEXT_NAME = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|COPYRIGHT|AUTHORS)([._-].*)?", re.IGNORECASE)
_SHORT = 80
_DEB_NAME = re.compile(r"([a-z0-9][a-z0-9+.-]+)_([A-Za-z0-9.+~:%-]+)_([a-z0-9-]+)\.deb")
_DEP5_LICENSE = re.compile(r"^License:[ \t]*(\S[^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What a package says of itself.

    `expression` is an SPDX expression that the package declares; `license_names` are names in its
    own words where it declares none. `texts` are its licence texts; a Debian package may have those
    of another instead, whose name `texts_of` is.
    """

    name: str
    version: str
    purl: str
    expression: str | None
    license_names: tuple[str, ...]
    texts: tuple[str, ...]
    texts_of: str | None = None


def read_wheel(path: Path) -> Package:
    """Read a wheel's METADATA and licence files. Raises SourceFailed where it is no wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:MAX_MEMBERS]
            metadata_name = next((n for n in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)), None)
            if metadata_name is None:
                raise _unreadable(path, "it has no METADATA")
            metadata = _headers(_member(archive, metadata_name))
            texts = tuple(_decoded(_member(archive, name)) for name in _text_names(names, metadata_name, metadata))
    except (zipfile.BadZipFile, KeyError, NotImplementedError, OSError) as error:
        raise _unreadable(path, str(error)) from error
    name, version = str(metadata.get("Name", "")), str(metadata.get("Version", ""))
    if not name or not version:
        raise _unreadable(path, "its METADATA names no package and version")
    expression = metadata.get("License-Expression")
    return Package(
        name=name,
        version=version,
        purl=f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version.replace('+', '%2B')}",
        expression=str(expression).strip() if expression else None,
        license_names=() if expression else _declared(metadata),
        texts=texts,
    )


def read_deb(path: Path) -> Package:
    """Read a Debian package's control file and copyright file. Raises SourceFailed where it is none."""
    try:
        with path.open("rb") as stream:
            members = _ar_members(stream)
            control = _tar_file(stream, members, "control.tar", "", "control")
            if not isinstance(control, bytes):
                return _from_file_name(path, members)
            fields = _headers(control)
            name, version = str(fields.get("Package", "")), str(fields.get("Version", ""))
            copyright_file = _tar_file(stream, members, "data.tar", f"usr/share/doc/{name}", "copyright")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not name or not version:
        raise _unreadable(path, "its control file names no package and version")
    text = _decoded(copyright_file) if isinstance(copyright_file, bytes) else ""
    return _debian(
        name,
        version,
        str(fields.get("Architecture", "all")),
        text=text,
        texts_of=copyright_file if isinstance(copyright_file, str) else None,
    )


def _from_file_name(path: Path, members: dict[str, tuple[int, int]]) -> Package:
    """Return what the name says of a package that is packed with zstd, which Python 3.11 cannot unpack."""
    match = _DEB_NAME.fullmatch(path.name)
    if match is None or "control.tar.zst" not in members:
        raise _unreadable(path, "its control file cannot be read")
    name, version, architecture = match.groups()
    return _debian(name, version.replace("%3a", ":"), architecture, text="", texts_of=None)


def _debian(name: str, version: str, architecture: str, *, text: str, texts_of: str | None) -> Package:
    quoted = version.replace("+", "%2B").replace(":", "%3A")
    return Package(
        name=name,
        version=version,
        purl=f"pkg:deb/debian/{name.replace('+', '%2B')}@{quoted}?arch={architecture}",
        expression=None,
        license_names=tuple(dict.fromkeys(map(str.strip, _DEP5_LICENSE.findall(text)))),
        texts=(text,) if text else (),
        texts_of=texts_of,
    )


def _text_names(names: list[str], metadata_name: str, metadata: Message) -> list[str]:
    folder = metadata_name.removesuffix("METADATA")
    declared = [str(name) for name in metadata.get_all("License-File", [])]
    wanted = {f"{folder}{middle}{name}" for name in declared for middle in ("licenses/", "")}
    found = [n for n in names if n in wanted]
    if not found:
        found = [n for n in names if n.startswith(folder) and _TEXT_NAME.fullmatch(n.rpartition("/")[2])]
    return sorted(found)[:MAX_TEXTS]


def _declared(metadata: Message) -> tuple[str, ...]:
    """Return licence names from the older fields: a short License, else the classifiers."""
    short = str(metadata.get("License", "")).strip()
    if short and len(short) <= _SHORT and "\n" not in short and short.upper() != "UNKNOWN":
        return (short,)
    classifiers = [str(value) for value in metadata.get_all("Classifier", [])]
    names = [value.rpartition(" :: ")[2] for value in classifiers if value.startswith("License :: ")]
    return tuple(dict.fromkeys(name for name in names if name != "OSI Approved"))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as stream:
        return stream.read(MAX_TEXT_BYTES)


def _headers(content: bytes) -> Message:
    return BytesParser().parsebytes(content, headersonly=True)


def _decoded(content: bytes) -> str:
    text = content.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\0", "\ufffd")
    return text.strip() + "\n"


def _ar_members(stream: IO[bytes]) -> dict[str, tuple[int, int]]:
    """Return the members of an ar archive: name to offset and size."""
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("it is no ar archive")
    members: dict[str, tuple[int, int]] = {}
    while len(header := stream.read(_AR_HEADER_BYTES)) == _AR_HEADER_BYTES and len(members) < MAX_TEXTS:
        size = int(header[48:58])
        if size < 0:
            raise ValueError("a member has a negative size")
        members[header[:16].decode("ascii").strip().rstrip("/")] = (stream.tell(), size)
        stream.seek(size + size % 2, io.SEEK_CUR)
    return members


def _tar_file(
    stream: IO[bytes], members: dict[str, tuple[int, int]], stem: str, folder: str, name: str
) -> bytes | str | None:
    """Return a file of the package's inner archive, or the name of the folder that a link in its place names.

    None where it is not there, or packed in a way that Python lacks.
    """
    archive_name = next((member for member in members if member.startswith(stem)), None)
    if archive_name is None or archive_name.endswith(".zst"):
        return None
    stream.seek(members[archive_name][0])
    wanted = f"{folder}/{name}".lstrip("/")
    with tarfile.open(fileobj=_Window(stream, members[archive_name][1]), mode="r|*") as archive:
        for count, member in enumerate(archive):
            found = member.name.removeprefix("./")
            if found == wanted and member.isfile():
                content = archive.extractfile(member)
                return content.read(MAX_TEXT_BYTES) if content else None
            if member.issym() and found in {wanted, folder}:
                return Path(member.linkname.removesuffix(f"/{name}")).name
            if count > MAX_MEMBERS:
                break
    return None


class _Window(io.RawIOBase):
    """The next `size` bytes of a stream, as a stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        super().__init__()
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        return content


def _unreadable(path: Path, why: str) -> SourceFailed:
    return SourceFailed(
        detail=f"{path.name}: its licence cannot be read: {why}",
        remedy="Fetch the package again; remove it from the cache if it is damaged there.",
    )
