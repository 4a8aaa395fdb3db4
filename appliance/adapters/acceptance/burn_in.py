"""The burn-in program in the engine's own environment, and `dcgmi diag` where the node has it.

Both are children of the daemon and end with it; the burn-in runs under the engine's account, not as
root. It is handed over as a file of the appliance that everybody can read.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from appliance.domain.acceptance import BurnInResult, Diagnosis, Figure
from appliance.domain.errors import BurnInFailed, Canceled
from appliance.ports import IsCanceled
from bundles.release import Device

PROGRAM: Final = Path(__file__).with_name("program") / "burn_in.py"
GRACE_S: Final = 600
"""How much longer than asked the program may take: loading PyTorch, warming up, connecting ranks."""
DIAGNOSTICS_TIMEOUT_S: Final = 4 * 3600
POLL_S: Final = 0.2
_SAID_CHARACTERS: Final = 2_000


class EngineBurnIn:
    """Implements `appliance.ports.BurnIn`.

    `python` is the engine's interpreter, `cache` a folder that `account` may write; without `account`
    the programs run as the caller. `dcgmi` is looked for in the system's own folders.
    """

    def __init__(self, *, python: Path, cache: Path, account: str | None, path: str = "/usr/bin:/usr/sbin") -> None:
        self._python = python
        self._cache = cache
        self._account = account
        self._path = path

    def run(
        self, device: Device, *, duration_s: int, ranks: int, watch: Callable[[], None], is_canceled: IsCanceled
    ) -> BurnInResult:
        command = [
            str(self._python), "-I", "-B", str(PROGRAM),
            "--device", device.value, "--seconds", str(duration_s), "--ranks", str(ranks),
        ]  # fmt: skip
        limit_s = duration_s + GRACE_S
        status, said, complained = self._run(
            command, account=self._account, limit_s=limit_s, watch=watch, is_canceled=is_canceled
        )
        if status != 0:
            raise _failed(f"the burn-in program exited {status}: {complained[-_SAID_CHARACTERS:].strip() or 'nothing'}")
        return _result(said, duration_s=duration_s)

    def diagnose(self, *, level: int, is_canceled: IsCanceled) -> Diagnosis | None:
        program = shutil.which("dcgmi", path=self._path)
        if program is None:
            return None
        status, said, complained = self._run(
            [program, "diag", "--run", str(level), "--json"],
            account=None, limit_s=DIAGNOSTICS_TIMEOUT_S, watch=lambda: None, is_canceled=is_canceled,
        )  # fmt: skip
        failures = failed_tests(said)
        if status != 0 and not failures:
            failures = ((complained or said)[-200:].strip() or f"exit status {status}",)
        return Diagnosis(program="dcgmi diag", level=level, passed=not failures, failures=failures)

    def _run(
        self,
        command: list[str],
        *,
        account: str | None,
        limit_s: float,
        watch: Callable[[], None],
        is_canceled: IsCanceled,
    ) -> tuple[int, str, str]:
        """Run a command to its end; return exit status, output and complaints."""
        home = str(self._cache)
        environment = {"PATH": self._path, "HOME": home, "TMPDIR": home if account else "/tmp", "LC_ALL": "C.UTF-8"}  # noqa: S108  the daemon's own private folder
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(  # noqa: S603  absolute programs and our own arguments, no shell
                    command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=complaints,
                    start_new_session=True, user=account, group=account, extra_groups=None if account is None else [],
                )  # fmt: skip
            except (OSError, LookupError) as error:
                raise _failed(f"{command[0]} could not be started: {error}") from error
            _await(process, limit_s=limit_s, watch=watch, is_canceled=is_canceled)
            return process.returncode, _text(output), _text(complaints)


def _await(
    process: subprocess.Popen[bytes], *, limit_s: float, watch: Callable[[], None], is_canceled: IsCanceled
) -> None:
    """Wait for the end, looking now and then; whatever happens, nothing is left running."""
    until_s = time.monotonic() + limit_s
    try:
        while True:
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if is_canceled():
                    raise Canceled(
                        detail="The measurement was asked to stop.", remedy="Start it again when it suits."
                    ) from None
                if time.monotonic() > until_s:
                    raise _failed(f"{process.args!r} did not end within {limit_s:.0f} s") from None
                watch()
            else:
                return
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")


def _result(said: str, *, duration_s: int) -> BurnInResult:
    """Read what the program printed last; raises BurnInFailed where that is something else."""
    try:
        plain = json.loads(said.splitlines()[-1])
        return BurnInResult(
            device=Device(plain["device"]),
            torch=str(plain["torch"]),
            devices=tuple(map(str, plain["devices"])),
            figures=tuple(Figure.of(f["name"], f["subject"], f["unit"], f["samples"]) for f in plain["figures"]),
            wrong=tuple(map(str, plain["wrong"])),
            duration_s=duration_s,
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _failed(f"the burn-in program printed something else than its figures: {said[-200:]!a}") from error


def failed_tests(text: str) -> tuple[str, ...]:
    """Name the tests in `dcgmi diag --json` that failed; DCGM 3 and 4 nest them alike but name them otherwise."""
    try:
        plain = json.loads(text[text.index("{") :])
    except ValueError:
        return ()
    return tuple(dict.fromkeys(_failed_below(plain, "diagnostics")))


def _failed_below(plain: Any, name: str) -> list[str]:  # noqa: ANN401  any JSON value
    if isinstance(plain, list):
        return [found for value in plain for found in _failed_below(value, name)]
    if not isinstance(plain, dict):
        return []
    name = str(plain.get("name", name))
    own = [name] if str(plain.get("status", "")).lower() == "fail" else []
    return own + [found for value in plain.values() for found in _failed_below(value, name)]


def _failed(detail: str) -> BurnInFailed:
    return BurnInFailed(
        detail=detail,
        remedy="Read `journalctl -k` and `leeward health` for the GPUs, then run `leeward acceptance` again.",
    )
