r"""Make an engine lock (`bundles/engine/*.txt`) anew: for maintainers, run by hand.

    uv pip compile bundles/engine/cuda.in --python-version 3.11 --only-binary :all: \
        --python-platform x86_64-manylinux_2_35 --format pylock.toml -o pylock.cuda.toml
    python -m bundles.sources.relock pylock.cuda.toml > cuda.txt

    pip download --no-deps --only-binary :all: -r pins.txt -d folder
    python -m bundles.sources.relock folder > cpu.txt

Each line pins one wheel, the best for CPython 3.11 on Linux x86-64, by its SHA-256; the comment
gives its size. No index address is written.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundles.sources.wheelhouse import normalized, sha256_of

PYTHON = (3, 11)
GLIBC = (2, 36)
"""Debian 12 has glibc 2.36; a wheel that asks for more cannot be loaded there."""
_OWN = f"cp{PYTHON[0]}{PYTHON[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A wheel that could be pinned; `filename` holds its compatibility tags (PEP 427)."""

    name: str
    version: str
    filename: str
    size_bytes: int
    sha256: str

    @property
    def rank(self) -> tuple[int, tuple[int, int]] | None:
        """How well it suits a node, higher is better: own ABI, stable ABI, pure; `None`: not at all."""
        python, abi, platform = self.filename.removesuffix(".whl").rsplit("-", 3)[1:]
        glibc = _glibc(platform)
        if glibc is None or glibc > GLIBC:
            return None
        tags = python.split(".")
        if abi == "abi3" and any(_minor(tag, "cp") <= PYTHON[1] for tag in tags):
            return (2, glibc)
        if _OWN in tags:
            return (3, glibc)
        return (1, glibc) if abi == "none" and any(_minor(tag, "py") <= PYTHON[1] for tag in tags) else None


def candidates_of_pylock(plain: Mapping[str, Any]) -> Iterator[Candidate]:
    """Read a parsed pylock.toml (PEP 751)."""
    for package in plain["packages"]:
        for wheel in package.get("wheels", ()):
            yield Candidate(
                name=normalized(package["name"]),
                version=package["version"],
                filename=wheel.get("name") or wheel["url"].rpartition("/")[2].replace("%2B", "+"),
                size_bytes=wheel["size"],
                sha256=wheel["hashes"]["sha256"],
            )


def candidates_of_folder(folder: Path) -> Iterator[Candidate]:
    """Read the names and bytes of the wheels in a folder."""
    for path in folder.glob("*.whl"):
        name, version = path.name.split("-")[:2]
        yield Candidate(
            name=normalized(name),
            version=version,
            filename=path.name,
            size_bytes=path.stat().st_size,
            sha256=sha256_of(path),
        )


def lock_lines(candidates: Iterable[Candidate]) -> list[str]:
    """Return one lock line for each package; raises ValueError where none of its wheels suits a node."""
    packages: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        packages.setdefault(candidate.name, []).append(candidate)
    lines = []
    for name in sorted(packages):
        suited = [(rank, wheel.filename, wheel) for wheel in packages[name] if (rank := wheel.rank) is not None]
        if not suited:
            raise ValueError(f"no wheel of {name} suits CPython 3.11 on Linux x86-64")
        best = max(suited, key=lambda item: item[:2])[2]
        lines.append(f"{best.name}=={best.version} --hash=sha256:{best.sha256}  # {best.size_bytes:,} bytes")
    return lines


def _minor(tag: str, kind: str) -> int:
    """Return the minor version of Python 3 that a tag asks for at least; beyond all for other tags."""
    match = re.fullmatch(rf"{kind}3(\d*)", tag)
    return sys.maxsize if match is None else int(match[1] or 0)


def _glibc(platform: str) -> tuple[int, int] | None:
    """Return the lowest glibc that a platform tag asks for; (0, 0) for `any`, `None` for other systems."""
    if platform == "any":
        return (0, 0)
    legacy = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17), "linux": (0, 0)}
    found = []
    for tag in platform.split("."):
        if not tag.endswith("_x86_64"):
            continue
        system = tag.removesuffix("_x86_64")
        numbers = re.fullmatch(r"manylinux_(\d+)_(\d+)", system)
        if numbers:
            found.append((int(numbers[1]), int(numbers[2])))
        elif system in legacy:
            found.append(legacy[system])
    return min(found, default=None)


def main(arguments: list[str]) -> int:
    """Print the lock made from a pylock.toml or from a folder of wheels."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m bundles.sources.relock PYLOCK.toml | FOLDER\n")
        return 2
    source = Path(arguments[0])
    if source.is_dir():
        candidates = candidates_of_folder(source)
    else:
        candidates = candidates_of_pylock(tomllib.loads(source.read_text(encoding="utf-8")))
    sys.stdout.write("".join(f"{line}\n" for line in lock_lines(candidates)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
