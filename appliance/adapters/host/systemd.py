"""systemd's units through systemctl and journalctl, each call with a time limit.

The programs are named by absolute path and run with a fixed locale and without a pager; a unit's
name is checked before it becomes an argument.
"""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from typing import Final

from appliance.domain.errors import CommandFailed

_SYSTEMCTL: Final = "/usr/bin/systemctl"
_JOURNALCTL: Final = "/usr/bin/journalctl"
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.\\@-]{1,200}\.(service|socket|target|timer|mount)")
_STDERR_CHARACTERS: Final = 2_000
_MAXIMUM_LINES: Final = 10_000


class SystemdServices:
    """`ports.ServiceManager`. `act_timeout_s` bounds start, stop and restart; reads take `read_timeout_s`."""

    def __init__(
        self,
        *,
        act_timeout_s: float = 180.0,
        read_timeout_s: float = 10.0,
        systemctl: str = _SYSTEMCTL,
        journalctl: str = _JOURNALCTL,
    ) -> None:
        self._act_timeout_s = act_timeout_s
        self._read_timeout_s = read_timeout_s
        self._systemctl = systemctl
        self._journalctl = journalctl

    def start(self, unit: str) -> None:
        self._act("start", unit)

    def stop(self, unit: str) -> None:
        self._act("stop", unit)

    def restart(self, unit: str) -> None:
        self._act("restart", unit)

    def active_state(self, unit: str) -> str:
        """Return ActiveState; a unit that does not exist is `inactive` to systemd, and so here."""
        return self._show(unit)["ActiveState"]

    def started_at(self, unit: str) -> datetime | None:
        """Return when the unit last became active; `None` while it is not."""
        shown = self._show(unit)
        text = shown["ActiveEnterTimestamp"]
        if shown["ActiveState"] != "active" or not re.fullmatch(r"@\d+", text):
            return None
        return datetime.fromtimestamp(int(text[1:]), tz=UTC)

    def automatic_restarts(self, unit: str) -> int:
        """Return NRestarts: automatic restarts (`Restart=`) since the unit was last started by somebody."""
        return int(self._show(unit)["NRestarts"])

    def log_tail(self, unit: str, lines: int) -> str:
        """Return the newest lines of the unit's log, oldest first; at most 10,000."""
        count = str(max(1, min(lines, _MAXIMUM_LINES)))
        command = [self._journalctl, f"--unit={_checked(unit)}", f"--lines={count}", "--no-pager", "--output=short-iso"]
        return _run(command, timeout_s=self._read_timeout_s)

    def _act(self, verb: str, unit: str) -> None:
        _run([self._systemctl, "--no-ask-password", verb, _checked(unit)], timeout_s=self._act_timeout_s)

    def _show(self, unit: str) -> dict[str, str]:
        """Return the unit's state, start and restarts; raises CommandFailed where systemd leaves one out."""
        names = ("ActiveState", "ActiveEnterTimestamp", "NRestarts")
        options = [f"--property={','.join(names)}", "--timestamp=unix"]
        text = _run([self._systemctl, "show", *options, _checked(unit)], timeout_s=self._read_timeout_s)
        shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if not shown.keys() >= set(names):
            raise CommandFailed(
                detail=f"`systemctl show {unit}` told {', '.join(shown) or 'nothing'}, not {', '.join(names)}",
                remedy="Leeward needs systemd 251 or newer; Debian 12 has 252.",
            )
        return shown


def _checked(unit: str) -> str:
    if not _UNIT.fullmatch(unit) or unit.startswith("-"):
        raise CommandFailed(
            detail=f"{unit!r} is not a unit's name",
            remedy="Name the unit in full, such as leeward-engine.service.",
        )
    return unit


def _run(command: list[str], *, timeout_s: float) -> str:
    """Run to the end and return its output; raises CommandFailed with what it said."""
    words = " ".join(command)
    try:
        done = subprocess.run(  # noqa: S603  an absolute program and checked arguments, no shell
            command,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(
            detail=f"`{words}` did not end within {timeout_s:g} s",
            remedy="Look at `systemctl list-jobs` for a job that hangs, then try again.",
        ) from error
    except OSError as error:
        raise CommandFailed(
            detail=f"`{words}` could not be run: {error}",
            remedy="Leeward needs systemd; run it on a node whose first process is systemd.",
        ) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing")[-_STDERR_CHARACTERS:]
        raise CommandFailed(
            detail=f"`{words}` exited {done.returncode}: {said}",
            remedy="Read `journalctl -xe` on the node for the unit's own words, then try again.",
        )
    return done.stdout
