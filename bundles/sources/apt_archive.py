"""An archive of Debian packages as apt sees it through a private configuration."""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from bundles.errors import SourceFailed
from bundles.sources import SourceContext
from bundles.sources.apt_index import Stanza, base_packages, refreshed, render, stanzas
from bundles.sources.commands import REMEDY, run, tail


@dataclass(frozen=True, kw_only=True)
class AptArchive:
    """Debian's archive as apt sees it through a private configuration kept in `folder`."""

    folder: Path
    sources: str
    pinned_version: str | None
    architecture: str
    context: SourceContext

    def closure(self, wanted: Sequence[str]) -> list[Path]:
        """Download `wanted` and everything a bare node lacks for it; returns the package files.

        One at a time: another build with the same cache waits.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "leeward.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._closure(wanted)

    def _closure(self, wanted: Sequence[str]) -> list[Path]:
        self._prepare()
        available = {s["Package"]: s for s in stanzas(self._apt("apt-cache", "dumpavail"))}
        base = {name: available[name]["Version"] for name in sorted(base_packages(available))}
        self._status.write_text("".join(render(_installed(available[name])) for name in base))
        files = self._download(("install", "--no-install-recommends", *wanted))
        seen: set[str] = set()
        todo = files
        while missing := sorted(refreshed((control_of(file) for file in todo), base, _at_least) - seen):
            seen.update(missing)
            todo = self._download(("download", *(f"{name}={base[name]}" for name in missing)))
            files = [*files, *todo]
        return sorted(set(files))

    @property
    def _status(self) -> Path:
        return self.folder / "status"

    @property
    def _archives(self) -> Path:
        return self.folder / "archives"

    def _prepare(self) -> None:
        for path in (
            self.folder / "lists" / "partial",
            self._archives / "partial",
            self.folder / "nothing" / "partial",
        ):
            path.mkdir(parents=True, exist_ok=True)
        (self.folder / "leeward.sources").write_text(self.sources)
        self._status.write_text("")
        pin = {"Package": "/./", "Pin": f"version {self.pinned_version}", "Pin-Priority": "1001"}
        (self.folder / "preferences").write_text(render(pin) if self.pinned_version else "")
        self._apt("apt-get", "update", "--error-on=any")

    @cached_property
    def _options(self) -> list[str]:
        values = {
            "Dir::Etc::SourceList": self.folder / "leeward.sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": self.folder / "preferences",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::Status": self._status,
            "Dir::State::Extended_States": self.folder / "extended_states",
            "Dir::Cache": self.folder,
            "Dir::Cache::Archives": self._archives,
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",
            "APT::Get::Assume-Yes": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        return [part for key, value in values.items() for part in ("-o", f"{key}={value}")]

    def _apt(self, tool: str, *arguments: str) -> str:
        return run([tool, "-q", *self._options, *arguments], cwd=self._archives)

    def _download(self, command: tuple[str, ...]) -> list[Path]:
        """Download what an apt-get command would; apt checks every file, kept ones included."""
        nothing_kept = f"Dir::Cache::Archives={self.folder / 'nothing'}"  # else kept files are not listed
        listing = self._apt("apt-get", "-o", nothing_kept, command[0], "--print-uris", *command[1:])
        sizes = {}
        for line in listing.splitlines():
            if line.startswith("'"):
                _, name, size, *_ = line.split()
                sizes[self._archives / name] = int(size)
        fetch = ("install", "--download-only") if command[0] == "install" else command[:1]
        with (
            subprocess.Popen(  # noqa: S603  fixed program, list of arguments
                ["apt-get", "-q", *self._options, *fetch, *command[1:]],  # noqa: S607  found on PATH, as for every Debian tool
                cwd=self._archives,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process
        ):
            while process.poll() is None:
                self._report(sizes)
                time.sleep(0.2)
            errors = process.stderr.read() if process.stderr else ""
        self._report(sizes)
        if process.returncode != 0 or not all(path.exists() for path in sizes):
            raise SourceFailed(
                detail=f"apt-get {command[0]}: {tail(errors)}",
                remedy=REMEDY,
            )
        return list(sizes)

    def _report(self, sizes: Mapping[Path, int]) -> None:
        done = sum(path.stat().st_size for path in sizes if path.exists())
        self.context.progress("Debian packages", done, sum(sizes.values()))


def control_of(file: Path) -> Stanza:
    """Return the control stanza of a package file."""
    return next(stanzas(run(["dpkg-deb", "--field", str(file)])))


def _installed(stanza: Stanza) -> Stanza:
    kept = ("Package", "Essential", "Priority", "Architecture", "Multi-Arch", "Version", "Provides", "Depends")
    more = ("Pre-Depends", "Breaks", "Conflicts")
    return {"Status": "install ok installed", **{key: stanza[key] for key in (*kept, *more) if key in stanza}}


@lru_cache(maxsize=4096)
def _at_least(version: str, minimum: str) -> bool:
    command = ["dpkg", "--compare-versions", version, "ge", minimum]
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603  fixed program, list of arguments
