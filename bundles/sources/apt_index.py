"""The pure half of the Debian source: control stanzas, base state, and a repository's index files.

Formats: deb-control(5), the Debian Policy Manual 5 and 7, and "DebianRepository/Format" in Debian's wiki.
No I/O, no clock. The resolver is apt itself; what is decided here is only what a node may be
assumed to have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

Stanza = dict[str, str]
AtLeast = Callable[[str, str], bool]
"""Whether the first Debian version is the second one or later."""

_STABLE_UPDATE = re.compile(r"[+~]deb\d+u\d+.*$")
_RELATION = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9+.-]*)(?::\w+)?\s*(?:\((?P<operator><<|<=|=|>=|>>)\s*(?P<version>[^)]+)\))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One alternative of a dependency; `operator` and `version` are empty where any version will do."""

    name: str
    operator: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPackage:
    """A package as it lies in the repository: its control stanza and its file."""

    control: Mapping[str, str]
    filename: str
    size_bytes: int
    sha256: str
    built_at: datetime

    @property
    def name(self) -> str:
        """The package's name."""
        return self.control["Package"]


def stanzas(text: str) -> Iterator[Stanza]:
    """Read control stanzas; continuation lines keep their line breaks."""
    stanza: Stanza = {}
    key = ""
    for line in text.splitlines():
        if not line.strip():
            if stanza:
                yield stanza
            stanza = {}
        elif line[0] in " \t":
            stanza[key] += "\n" + line
        else:
            key, _, value = line.partition(":")
            stanza[key] = value.strip()
    if stanza:
        yield stanza


def render(stanza: Mapping[str, str]) -> str:
    """Write a stanza as `stanzas` reads it, with a closing empty line."""
    return "".join(f"{key}:{'' if value.startswith(chr(10)) else ' '}{value}\n" for key, value in stanza.items()) + "\n"


def dependencies(stanza: Mapping[str, str]) -> list[list[Relation]]:
    """Return what must be there before the package works: each entry is a list of alternatives."""
    groups = []
    for key in ("Pre-Depends", "Depends"):
        for group in filter(None, (part.strip() for part in stanza.get(key, "").split(","))):
            alternatives = [match for part in group.split("|") if (match := _RELATION.match(part.strip()))]
            groups.append(
                [
                    Relation(name=m["name"], operator=m["operator"] or "", version=m["version"] or "")
                    for m in alternatives
                ]
            )
    return groups


def base_packages(available: Mapping[str, Stanza]) -> set[str]:
    """Return the packages that every installation has: essential or required, and what those need."""
    providers: dict[str, list[str]] = {}
    for name, stanza in available.items():
        for provided in filter(None, stanza.get("Provides", "").split(",")):
            providers.setdefault(provided.split("(")[0].strip(), []).append(name)
    base = {n for n, s in available.items() if s.get("Essential") == "yes" or s.get("Priority") == "required"}
    todo = sorted(base)
    while todo:
        for group in dependencies(available[todo.pop()]):
            real = [relation.name for relation in group if relation.name in available]
            virtual = [provider for relation in group for provider in sorted(providers.get(relation.name, []))]
            if (real or virtual) and base.isdisjoint(real + virtual):
                chosen = (real or virtual)[0]
                base.add(chosen)
                todo.append(chosen)
    return base


def first_version(version: str) -> str | None:
    """Return the version that the first point release had, or `None` where it cannot be told.

    `2.36-9+deb12u14` began as `2.36-9`. A `~deb12u` version is a newer upstream release in a stable
    update: its beginning is unknown.
    """
    match = _STABLE_UPDATE.search(version)
    if match is None:
        return version
    return version[: match.start()] if match[0].startswith("+") else None


def refreshed(controls: Iterable[Mapping[str, str]], base: Mapping[str, str], at_least: AtLeast) -> set[str]:
    """Return the base packages that the repository must bring too, for a node that was never updated.

    `base` maps the names of base packages to their present versions. One is needed where a package
    asks for exactly its version, or for one that the first point release did not have.
    """
    needed = set()
    for control in controls:
        for group in dependencies(control):
            for relation in group:
                if relation.name in base and not _surely_met(relation, base[relation.name], at_least):
                    needed.add(relation.name)
    return needed


def _surely_met(relation: Relation, version: str, at_least: AtLeast) -> bool:
    if relation.operator in {"", "<<", "<="}:
        return True
    first = first_version(version)
    if relation.operator == "=" or first is None:
        return False
    return at_least(first, relation.version)


def packages_index(pool: Sequence[PoolPackage]) -> str:
    """Write the repository's `Packages` file, in the order of names."""
    entries = []
    for package in sorted(pool, key=lambda p: p.filename):
        place = {
            "Filename": f"pool/{package.filename}",
            "Size": str(package.size_bytes),
            "SHA256": package.sha256,
        }
        entries.append(render({**package.control, **place}))
    return "".join(entries)


def release_file(indexes: Mapping[str, bytes], *, architecture: str, date: datetime) -> str:
    """Write the repository's `Release` file; `date` is UTC, `indexes` are paths below `dists/leeward`."""
    hashes = "".join(
        f"\n {hashlib.sha256(content).hexdigest()} {len(content)} {path}" for path, content in sorted(indexes.items())
    )
    return (
        render(
            {
                "Origin": "Leeward",
                "Label": "Leeward",
                "Suite": "leeward",
                "Codename": "leeward",
                "Date": date.strftime("%a, %d %b %Y %H:%M:%S UTC"),
                "Architectures": architecture,
                "Components": "main",
                "Description": "Operating system packages of a Leeward release",
                "SHA256": hashes,
            }
        ).rstrip("\n")
        + "\n"
    )


def pool_name(control: Mapping[str, str]) -> str:
    """Return the file name in the pool, as in Debian's: without the epoch, so without `:` or `%`."""
    version = control["Version"].partition(":")[2] or control["Version"]
    return f"{control['Package']}_{version}_{control['Architecture']}.deb"
