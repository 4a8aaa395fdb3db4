"""Wheels and Debian packages made for tests."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def wheel(folder: Path, metadata: str, *, texts: Mapping[str, bytes] | None = None, name: str = "pkg-1.0") -> Path:
    """Write a wheel with these METADATA and these files in its dist-info."""
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.dist-info/METADATA", metadata)
        for text, content in (texts or {}).items():
            archive.writestr(f"{name}.dist-info/{text}", content)
    return path


def deb(
    folder: Path,
    control: str,
    *,
    files: Mapping[str, bytes] | None = None,
    links: Mapping[str, str] | None = None,
    compression: str = "xz",
) -> Path:
    """Write a Debian package with this control file, these files and symbolic links."""
    inner = {"control": control.encode()}
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar.{compression}": _tar(inner, {}, compression),
        f"data.tar.{compression}": _tar(files or {}, links or {}, compression),
    }
    path = folder / "pkg_1.0_all.deb"
    path.write_bytes(b"!<arch>\n" + b"".join(ar_member(name, content) for name, content in members.items()))
    return path


def ar_member(name: str, content: bytes, *, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{length:<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def _tar(files: Mapping[str, bytes], links: Mapping[str, str], compression: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz" if compression == "zst" else f"w:{compression}") as archive:  # type: ignore[call-overload]  # a mode is a literal for it
        for name, target in links.items():
            link = tarfile.TarInfo(f"./{name}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
