"""Reads the machine's own apt configuration, to learn from which mirror a node can be made.

Both forms of sources.list(5) are read. Parsing is pure; `installed_sources` alone does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabUnavailable

_APT = Path("/etc/apt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One archive, suite and its components, from which binary packages come."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str | None = None  # path of a keyring; None means apt's trusted.gpg.d

    def line(self) -> str:
        """As one line of a sources.list."""
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {self.suite} {' '.join(self.components)}"


def parse_one_line(text: str) -> tuple[Source, ...]:
    """The `deb` entries of a `*.list` file."""
    found = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        if not line.startswith(("deb ", "deb\t")):
            continue
        rest = line[4:].strip()
        options = ""
        if rest.startswith("["):
            options, _, rest = rest[1:].partition("]")
        uri, suite, *components = rest.split()
        signed_by = next((o.partition("=")[2] for o in options.split() if o.lower().startswith("signed-by=")), None)
        found.append(Source(uri=uri, suite=suite, components=tuple(components), signed_by=signed_by))
    return tuple(found)


def parse_deb822(text: str) -> tuple[Source, ...]:
    """The enabled `deb` entries of a `*.sources` file; an embedded key counts as none named."""
    found: list[Source] = []
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in kept.split("\n\n"):
        fields = _fields(paragraph)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {"no", "false"}:
            continue
        key = fields.get("signed-by", "")
        found.extend(
            Source(
                uri=uri,
                suite=suite,
                components=tuple(fields.get("components", "").split()),
                signed_by=key if key.startswith("/") and " " not in key else None,
            )
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        )
    return tuple(found)


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line[:1].isspace() and name:
            fields[name] = f"{fields[name]} {line.strip()}"
        elif ":" in line:
            key, _, value = line.partition(":")
            name = key.strip().lower()
            fields[name] = value.strip()
    return fields


def installed_sources(apt: Path = _APT) -> tuple[Source, ...]:
    """Every source this machine's apt is configured with."""
    lists = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]
    found = [s for path in lists if path.is_file() for s in parse_one_line(path.read_text())]
    found += [s for path in sorted(apt.glob("sources.list.d/*.sources")) for s in parse_deb822(path.read_text())]
    return tuple(found)


def point_release(sources: Iterable[Source], *, suite: str) -> Source:
    """The archive of the point release alone: not its updates and not its security suite.

    The newest security kernel is left out on purpose: GPU drivers are proven against the point release.

    Raises:
        LabUnavailable: no source names the suite with its component `main`.
    """
    for source in sources:
        if source.suite == suite and "main" in source.components:
            return Source(uri=source.uri, suite=suite, components=("main",), signed_by=source.signed_by)
    raise LabUnavailable(
        detail=f"this machine's apt names no source with suite {suite} and component main",
        remedy=f"Add a Debian source for {suite} main to /etc/apt/sources.list.d.",
    )
