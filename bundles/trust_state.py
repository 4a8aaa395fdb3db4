"""The trusted state on disk: one folder per generation, and one link that says which one counts.

    trust/
      anchor.root.json      the first trusted root
      current -> states/N   the generation that counts
      states/N/             TUF metadata, root history, policy.json, accepted.json; count, where a TPM counts along
      .lock                 held while a generation is adopted

A new generation is written beside the old one, made durable, and adopted with one rename. It must
have grown from the generation that counts: who began from an older one (an import that ran while a
revocation came in) is refused and begins again, so that nothing adopted is ever lost. Where the
node's TPM counts along (`bundles.counter`), a generation from an old disk image is refused too.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bundles.counter import Counter
from bundles.errors import RollbackRefused, TrustRootMissing
from bundles.transfer import fsync_folder

ANCHOR = "anchor.root.json"
CURRENT = "current"
STATES = "states"
COUNT = "count"
_LOCK = ".lock"
RESTORE = "Restore /var/lib/leeward/trust from a backup; do not anchor anew without the publisher's paper."
"""What to do about a damaged state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One generation: its number (0: nothing was adopted yet) and its files, name to bytes."""

    generation: int
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The folder `trust/`, and the counter in force, if there is one. Reading changes nothing."""

    path: Path
    counter: Counter | None = field(default=None, repr=False)

    def anchor(self) -> bytes | None:
        """Return the first trusted root; None where nothing is trusted yet."""
        try:
            return (self.path / ANCHOR).read_bytes()
        except FileNotFoundError:
            return None

    def set_anchor(self, root_json: bytes) -> None:
        """Write the first trusted root, durably."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_durably(self.path / ANCHOR, root_json)
        fsync_folder(self.path)

    def state(self) -> State:
        """Return the generation that counts. Raises TrustRootMissing where it is lost."""
        current = self._current()
        if current is None:
            return State(generation=0, files={})
        files = dict(gather(current))
        if not files:  # no generation is empty: to go on as if it were the first would forget what was accepted
            raise TrustRootMissing(detail=f"{current}, which counts, is lost or empty", remedy=RESTORE)
        return State(generation=int(current.name), files=files)

    def checked_state(self) -> State:
        """Return the generation that counts, once the TPM agrees that it is the newest.

        Raises RollbackRefused where it is older than the TPM's count, TrustRootMissing where the TPM fails.
        """
        state = self.state()
        if self.counter is not None:
            counted, known = self.counter.read(), _count(state)
            if counted is None and known is not None:
                raise self._rewound(
                    f"is number {known}, but the TPM has no counter any more: it was cleared or exchanged"
                )
            if counted is not None and known not in {counted, counted + 1}:  # one ahead: killed before the TPM counted
                raise self._rewound(
                    f"is number {'unknown' if known is None else known}, but the TPM has counted to {counted}: "
                    "an older disk image was brought back"
                )
        return state

    def _rewound(self, why: str) -> RollbackRefused:
        return RollbackRefused(
            detail=f"the trusted state on this disk {why}",
            remedy=f"Bring back the newest backup of {self.path}, or the node's own TPM. If there is none, two people "
            "move it away, anchor the root again with the paper, and run `leeward bundle anchor --tpm`.",
        )

    def bind(self, counted: int) -> None:
        """Let the counter, which stands at `counted`, count along; a state that knows it already is left alone."""
        with self._locked():
            state = self.state()
            if _count(state) is None:
                self._write({**state.files, COUNT: b"%d" % counted})

    def adopt(self, files: Mapping[str, bytes], *, grown_from: int) -> None:
        """Make `files` the generation that counts; the very same files again change nothing.

        Raises RollbackRefused where another generation than `grown_from` counts by now, OSError.
        """
        with self._locked():
            now = self.checked_state()
            self._catch_up(now)
            files = {name: content for name, content in files.items() if name != COUNT}
            if {name: content for name, content in now.files.items() if name != COUNT} == files:
                return
            if now.generation != grown_from:
                raise RollbackRefused(
                    detail=f"what is trusted here has changed since the check: generation {now.generation} counts, "
                    f"the check was made against generation {grown_from}",
                    remedy="Import again; what was verified is kept, so it is quick. Nothing was changed.",
                )
            counted = None if self.counter is None else self.counter.read()
            self._write(files if counted is None else {**files, COUNT: b"%d" % (counted + 1)})
            if self.counter is not None and counted is not None:
                self.counter.increment()

    def _catch_up(self, state: State) -> None:
        """Let the TPM count what a killed adoption left uncounted."""
        if self.counter is not None and (known := _count(state)) is not None and known != self.counter.read():
            self.counter.increment()

    def _write(self, files: Mapping[str, bytes]) -> None:
        states = self.path / STATES
        states.mkdir(exist_ok=True)
        old = self._current()
        number = 1 + max((int(entry.name) for entry in states.iterdir() if entry.name.isdecimal()), default=0)
        fresh = states / str(number)
        fresh.mkdir()
        spread(files, fresh, durable=True)
        fsync_folder(states)
        link = self.path / f".{CURRENT}"
        link.unlink(missing_ok=True)
        link.symlink_to(f"{STATES}/{number}")
        link.replace(self.path / CURRENT)
        fsync_folder(self.path)
        for entry in states.iterdir():  # generations of our own making; the one before is kept for a look back
            if entry.name.isdecimal() and entry not in {fresh, old}:
                shutil.rmtree(entry)

    def _current(self) -> Path | None:
        link = self.path / CURRENT
        return self.path / link.readlink() if link.is_symlink() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _count(state: State) -> int | None:
    content = state.files.get(COUNT, b"")
    return int(content) if content.isdigit() else None


def gather(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give a state's files; links (python-tuf keeps one to the newest root) are not part of it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def spread(files: Mapping[str, bytes], folder: Path, *, durable: bool = False) -> None:
    """Write a state's files into `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if durable:
            write_durably(path, content)
        else:
            path.write_bytes(content)
    if durable:
        for parent in {(folder / name).parent for name in files} | {folder}:
            fsync_folder(parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or not at all, after a power cut."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
