"""The entry point `leeward-console`: choose how to show, then show.

Textual reads its settings from the environment when it is imported, so it is imported last.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance.client import ApplianceClient, socket_path
from bundles.errors import LeewardError
from console import plain
from console.capabilities import Capabilities, Profile, choose


def main(
    arguments: Sequence[str] | None = None, *, now: Callable[[], datetime] | None = None, lean: bool = True
) -> None:
    """Run the console; exits with the status of the error tree where the daemon cannot be read.

    Tests give a clock of their own, and leave out our output layer to compare it with Textual's.
    """
    options = _parser().parse_args(arguments)
    forced = Profile(options.profile) if options.profile else None
    capabilities = choose(os.environ, tty=_tty(), forced=forced, plain=options.plain)
    if capabilities.profile is Profile.NONE:
        sys.exit(asyncio.run(_print_summary(options.socket)))
    os.environ.update(_textual_settings(capabilities))
    sys.exit(asyncio.run(_show(options, capabilities, now=now or _utc_now, lean=lean)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="leeward-console", description="Show this node. Leaving the console stops nothing: operations go on."
    )
    parser.add_argument("--socket", type=Path, default=socket_path(), help="the daemon's socket (default: %(default)s)")
    screens = [profile.value for profile in Profile if profile is not Profile.NONE]
    parser.add_argument("--profile", choices=screens, help="output profile; without it, chosen by the terminal")
    home = Path(os.environ.get("HOME") or ".")
    parser.add_argument(
        "--write-to", type=Path, default=home, help="where the key w writes views to (default: your home)"
    )
    parser.add_argument("--plain", action="store_true", help="print the node's health as text and end")
    return parser


def _tty() -> str | None:
    try:
        return os.ttyname(sys.stdout.fileno()) if sys.stdin.isatty() else None
    except OSError:
        return None


async def _print_summary(socket: Path) -> int:
    try:
        async with ApplianceClient(socket) as client:
            sys.stdout.write(plain.summary(await client.status(), await client.health()))
    except LeewardError as error:
        sys.stderr.write(f"{error.title}.\n{error.detail}\nRemedy: {error.remedy}\nCode: {error.code}\n")
        return error.exit_status
    return 0


async def _show(
    options: argparse.Namespace, capabilities: Capabilities, *, now: Callable[[], datetime], lean: bool
) -> int:
    from console.app import ConsoleApp  # noqa: PLC0415  Textual reads the environment when it is imported

    async with ApplianceClient(options.socket) as client:
        app = ConsoleApp(client, capabilities, now=now, lean=lean, write_to=options.write_to)
        await app.run_async(mouse=False)
        if app.status is not None and app.status.unfinished is not None:
            sys.stdout.write("The operation goes on. Run leeward-console to see it again.\n")
        return app.return_code or 0


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _textual_settings(capabilities: Capabilities) -> dict[str, str]:
    settings = {"TEXTUAL_ANIMATIONS": "none", "TEXTUAL_SMOOTH_SCROLL": "0", "TEXTUAL_DISABLE_KITTY_KEY": "1"}
    if capabilities.profile is not Profile.RICH:
        settings["TEXTUAL_COLOR_SYSTEM"] = "standard"
    return settings
