"""The console in a pty: what a terminal is sent, byte by byte and cell by cell.

LEEWARD_UPDATE_GOLDENS=1 writes the goldens anew; look at them before they are committed.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tests.tui.conftest import Stage, check_golden

FIRST_PAINT_BYTES = 6 * 1024
COLOR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
RICH = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
SERIAL = {"TERM": "vt220"}
VT = {"TERM": "linux"}


def console(socket: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.tui.fixed_console", "--socket", str(socket), *arguments]


def painted(
    socket: Path, size: tuple[int, int], environ: dict[str, str], until: str, keys: tuple[str, ...] = (), *extra: str
) -> Terminal:
    """Run the console until it shows a text, then press keys; the caller closes the terminal."""
    terminal = Terminal(console(socket, *extra), columns=size[0], rows=size[1], environ=environ)
    try:
        terminal.until(until)
        terminal.type(*keys)
        terminal.settle()
    except BaseException:
        terminal.close()
        raise
    return terminal


@pytest.mark.parametrize(
    ("name", "scene", "size", "environ", "until", "keys"),
    [
        ("health-120x36-rich", "warn", (120, 36), RICH, "GPU 2 is hot", ()),
        ("health-80x24-serial", "warn", (80, 24), SERIAL, "GPU 2 is hot", ()),
        ("health-80x24-vt", "warn", (80, 24), VT, "GPU 2 is hot", ()),
        ("health-unknown-80x24-serial", "unknown", (80, 24), SERIAL, "?? running", ()),
        ("install-120x36-rich", "importing", (120, 36), RICH, "part 0004", ()),
        ("install-80x24-serial", "importing", (80, 24), SERIAL, "part 0004", ()),
        ("provision-120x36-rich", "provisioning", (120, 36), RICH, "busy", ()),
        ("failed-80x24-serial", "failed", (80, 24), SERIAL, "Remedy", ()),
        ("wizard-80x24-serial", "empty", (80, 24), SERIAL, "Where is the medium", ()),
        ("check-120x36-rich", "empty", (120, 36), RICH, "Where is the medium", ("/m", "enter")),
        ("help-80x24-serial", "warn", (80, 24), SERIAL, "GPU 2 is hot", ("?",)),
        ("palette-80x24-serial", "warn", (80, 24), SERIAL, "GPU 2 is hot", (":",)),
    ],
)
async def test_screen_is_as_recorded(
    on_stage: Stage, name: str, scene: str, size: tuple[int, int], environ: dict[str, str], until: str,
    keys: tuple[str, ...],
) -> None:  # fmt: skip
    daemon = await on_stage(scene)

    with await asyncio.to_thread(painted, daemon.socket, size, environ, until, keys) as terminal:
        text = terminal.text()

    check_golden(name, text)


@pytest.mark.parametrize(
    ("scene", "until"), [("warn", "GPU 2 is hot"), ("importing", "part 0004"), ("empty", "Where is the medium")]
)
async def test_serial_line_gets_little_and_only_ascii(on_stage: Stage, scene: str, until: str) -> None:
    daemon = await on_stage(scene)

    with await asyncio.to_thread(painted, daemon.socket, (80, 24), SERIAL, until) as terminal:
        assert terminal.received.isascii()
        assert len(terminal.received) <= FIRST_PAINT_BYTES
        for query in (b"$p", b"?1004h", b"?2004h", b"\x1b[>", b"?1000h"):
            assert query not in terminal.received


@pytest.mark.parametrize("environ", [RICH, SERIAL, VT])
async def test_no_color_leaves_no_colour_at_all_and_keeps_the_words(on_stage: Stage, environ: dict[str, str]) -> None:
    daemon = await on_stage("warn")

    mono = environ | {"NO_COLOR": "1"}
    with await asyncio.to_thread(painted, daemon.socket, (80, 24), mono, "GPU 2 is hot") as terminal:
        assert COLOR.findall(bytes(terminal.received)) == []
        assert "WARN" in terminal.text()
        assert any(reverse for row in terminal.cells() for *_, reverse, _ in row)


async def test_colour_is_there_without_no_color(on_stage: Stage) -> None:
    daemon = await on_stage("warn")

    with await asyncio.to_thread(painted, daemon.socket, (80, 24), SERIAL, "GPU 2 is hot") as terminal:
        assert COLOR.findall(bytes(terminal.received))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_terminal_is_restored_when_the_console_is_ended(on_stage: Stage, number: signal.Signals) -> None:
    daemon = await on_stage("warn")

    def end() -> tuple[int, bytes, bool, bool]:
        with painted(daemon.socket, (80, 24), RICH, "GPU 2 is hot") as terminal:
            changed = terminal.modes() != terminal.modes_before
            status = terminal.end_with(number)
            return status, bytes(terminal.received), changed, terminal.modes() == terminal.modes_before

    status, received, changed, restored = await asyncio.to_thread(end)

    assert status == 0
    assert changed
    assert restored
    assert received.rfind(b"\x1b[?1049l") > received.rfind(b"\x1b[?1049h")
    assert received.rfind(b"\x1b[?25h") > received.rfind(b"\x1b[?25l")


@pytest.mark.parametrize(("environ", "size"), [(RICH, (120, 36)), (SERIAL, (80, 24)), (VT, (80, 24))])
async def test_our_output_shows_the_same_cells_as_textual_with_fewer_bytes(
    on_stage: Stage, environ: dict[str, str], size: tuple[int, int]
) -> None:
    daemon = await on_stage("warn")
    keys = ("down", "down", "down", "enter", "esc", "?", "esc", "2", "1", "up", "ctrl+l")

    def frames(*extra: str) -> tuple[list[object], int]:
        with painted(daemon.socket, size, environ, "GPU 2 is hot", (), *extra) as terminal:
            seen: list[object] = [terminal.cells()]
            for key in keys:
                terminal.type(key)
                terminal.settle()
                seen.append(terminal.cells())
            return seen, len(terminal.received)

    (lean, lean_bytes), (stock, stock_bytes) = await asyncio.gather(
        asyncio.to_thread(frames), asyncio.to_thread(frames, "--stock")
    )

    different = [place for place, (one, other) in enumerate(zip(lean, stock, strict=True)) if one != other]
    assert different == []
    assert lean_bytes < stock_bytes


@pytest.mark.parametrize(
    ("environ", "arguments"), [({"TERM": "dumb"}, ()), ({"TERM": "dumb", "LANG": "C"}, ()), (RICH, ("--plain",))]
)
async def test_dumb_terminal_gets_plain_text_once(
    on_stage: Stage, environ: dict[str, str], arguments: tuple[str, ...]
) -> None:
    daemon = await on_stage("warn")

    def run() -> tuple[int, bytes]:
        with Terminal(console(daemon.socket, *arguments), columns=80, rows=24, environ=environ) as terminal:
            terminal.pump(15, enough=lambda: terminal.process.poll() is not None)
            terminal.pump(0.2)
            return terminal.process.wait(timeout=5), bytes(terminal.received)

    status, received = await asyncio.to_thread(run)

    assert status == 0
    assert b"\x1b" not in received
    assert b"verdict    SERVING" in received
    assert b"SIMULATED  gpus" in received


async def test_plain_text_without_a_daemon_says_what_to_do_and_exits_2(tmp_path: Path) -> None:
    def run() -> tuple[int, bytes]:
        command = console(tmp_path / "nobody.sock", "--plain")
        with Terminal(command, columns=80, rows=24, environ={"TERM": "dumb"}) as terminal:
            terminal.pump(15, enough=lambda: terminal.process.poll() is not None)
            terminal.pump(0.2)
            return terminal.process.wait(timeout=5), bytes(terminal.received)

    status, received = await asyncio.to_thread(run)

    assert status == 2
    assert b"The management daemon does not answer" in received
    assert b"Traceback" not in received


async def test_change_of_size_changes_the_layout(on_stage: Stage) -> None:
    daemon = await on_stage("warn")

    def resize() -> tuple[str, str]:
        with painted(daemon.socket, (120, 36), RICH, "GPU 2 is hot") as terminal:
            wide = terminal.text()
            terminal.resize(80, 24)
            terminal.process.send_signal(signal.SIGWINCH)
            terminal.settle()
            return wide, terminal.text()

    wide, narrow = await asyncio.to_thread(resize)

    assert "╭─ GPUs" in wide
    assert "╭─ GPUs" not in narrow
    assert "q Leave" in narrow
