"""How commands speak: each thing once, to a person as a line or to a program as a JSON object."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import NoReturn, ParamSpec

import click

from bundles.errors import FileUnusable, KeyLocked, LeewardError, StoreFull

P = ParamSpec("P")
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
SECRETS = click.option(
    "--passphrase-fd",
    "secret_descriptor",
    type=click.IntRange(min=0),
    metavar="N",
    help="Read passphrases and PINs from this file descriptor, one a line; else a person is asked.",
)
"""For commands that open private keys. A secret is never an argument: other processes can read those."""
_DENIED = "Run the command as somebody who may (often root), or change the owner or the mode of that path."
_READ_ON = "Check the path and what is mounted there (`findmnt`, `ls -l`); `journalctl -k` tells of failing disks."
_REMEDIES = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOENT: "Check the spelling, and that the medium or disk is mounted there (`findmnt`).",
    errno.ENOTDIR: "A part of that path is a file, not a folder: name another path.",
    errno.EISDIR: "That is a folder: name a file in it.",
    errno.EEXIST: "Name a path that does not exist yet; nothing is overwritten.",
    errno.EROFS: "It is mounted read-only: name a place elsewhere, or mount it for writing (`mount -o remount,rw`).",
    errno.EIO: "The disk or stick fails (`journalctl -k`): try another reader, then another copy.",
    errno.EMFILE: "Too many files are open: run the command from a fresh session (`ulimit -n`).",
}
_GROUP = 4
_MAX_SECRETS_BYTES = 64_000


class Voice:
    """Says each thing once: as a line for people, or as an event for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._terminal = sys.stderr.isatty() and not as_json
        self._percent = -1

    def say(self, line: str, event: str, **values: object) -> None:
        """Say one thing; `line` may be empty where only programs care."""
        if self._as_json:
            click.echo(json.dumps({"event": event, **values}, sort_keys=True))
        elif line:
            click.echo(line)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show progress on a terminal, at most once a percent; programs get an event as often."""
        percent = 100 * done // total if total else 100
        if percent == self._percent:
            return
        self._percent = percent
        if self._as_json:
            self.say("", "progress", what=what, done=done, total=total)
        elif self._terminal:
            click.echo(f"\r\x1b[K{percent:3d} %  {what[:100]}", nl=False, err=True)

    def end_progress(self) -> None:
        """Leave the progress line."""
        if self._terminal and self._percent >= 0:
            click.echo("\r\x1b[K", nl=False, err=True)
        self._percent = -1

    def fail(self, error: LeewardError, *, verdict: str | None = None) -> NoReturn:
        """Say what went wrong and what to do, give the verdict, and end with the error's status."""
        self.end_progress()
        if self._as_json:
            self.say("", "error", code=error.code, title=error.title, detail=error.detail, remedy=error.remedy)
        else:
            click.echo(f"{error.title}.\n  {harmless(error.detail)}\n  What to do: {harmless(error.remedy)}", err=True)
        if verdict:
            self.say(verdict, "verdict", verified=False)
        raise SystemExit(error.exit_status)


def speaking(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors of a command into words and an exit status. The command has a `voice` as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
    @wraps(command)
    def spoken(*args: P.args, **kwargs: P.kwargs) -> None:
        voice = Voice(as_json=bool(kwargs.pop("as_json")))
        try:
            command(voice, *args, **kwargs)  # type: ignore[arg-type]  # the voice stands before what click passes
        except LeewardError as error:
            voice.fail(error)
        except BrokenPipeError:  # who was reading has gone; click ends quietly then
            raise
        except OSError as error:
            voice.fail(told(error))
        except KeyboardInterrupt:
            voice.end_progress()
            click.echo("Interrupted. Nothing half-done was left under its final name.", err=True)
            raise SystemExit(130) from None

    return spoken


def told(error: OSError) -> LeewardError:
    """Return what a file system said, as an error with the file's name and a remedy."""
    names = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    detail = f"{names or 'a file that the command uses'}: {error.strerror or error}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(
            detail=detail, remedy="Free space there, or name another place, then run the same command again."
        )
    return FileUnusable(detail=detail, remedy=_REMEDIES.get(error.errno or 0, _READ_ON))


def secrets(descriptor: int | None) -> Callable[[str], str]:
    """Return whom to ask for a secret: a file descriptor's lines (the last one again and again), or a person.

    Each thing is asked for once. Asking raises KeyLocked where there is neither.
    """
    known: dict[str, str] = {}
    ask = _ask if descriptor is None else _reader(descriptor)

    def once(what: str) -> str:
        if what not in known:
            known[what] = ask(what)
        return known[what]

    return once


def new_secret(descriptor: int | None, what: str) -> str:
    """Return a secret for something new; a person gives it twice. Raises KeyLocked."""
    if descriptor is not None:
        return secrets(descriptor)(what)
    first = _ask(f"new {what}")
    if first != _ask(f"new {what} again"):
        raise KeyLocked(detail="the two entries differ", remedy="Try again; nothing was written.")
    return first


def _ask(what: str) -> str:
    if not _at_terminal():
        raise KeyLocked(
            detail=f"the {what} is needed, and nobody sits at a terminal",
            remedy="Run this in a terminal, or give secrets with `--passphrase-fd`.",
        )
    return str(click.prompt(what[:1].upper() + what[1:], hide_input=True, err=True))


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _reader(descriptor: int) -> Callable[[str], str]:
    lines = _lines(descriptor)
    last = ""

    def read(what: str) -> str:
        nonlocal last
        last = next(lines, last)
        if not last:
            raise KeyLocked(
                detail=f"file descriptor {descriptor} gives no {what}", remedy="Write one secret a line to it."
            )
        return last

    return read


def _lines(descriptor: int) -> Iterator[str]:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            content = stream.read(_MAX_SECRETS_BYTES)
    except OSError as error:
        raise KeyLocked(
            detail=f"file descriptor {descriptor} cannot be read: {error.strerror}",
            remedy="Open it for the command, as in `--passphrase-fd 3 3<secret`.",
        ) from error
    return iter(content.decode("utf-8", "surrogateescape").splitlines())


def harmless(text: str) -> str:
    """Return text of unknown origin so that it cannot steer a terminal; lines and tabs stay."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode("ascii") for one in text
    )


def one_line(text: str) -> str:
    """The same for what stands within a line: it cannot begin another one, which might pass for our own."""
    return harmless(text).replace("\n", "\\n").replace("\t", " ")


def grouped(fingerprint: str) -> str:
    """Return a fingerprint in groups of four, as people read it aloud."""
    return " ".join(fingerprint[at : at + _GROUP] for at in range(0, len(fingerprint), _GROUP))
