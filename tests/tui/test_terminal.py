"""The console in a pty: what a terminal is sent, byte by byte and cell by cell.

LEEWARD_UPDATE_GOLDENS=1 writes the goldens anew; look at them before they are committed.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tests.tui.conftest import Stage, check_golden, is_golden

FIRST_PAINT_BYTES = 6 * 1024
COLOR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
RICH = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
SERIAL = {"TERM": "vt220"}
VT = {"TERM": "linux"}
WIDE, NARROW = (120, 36), (80, 24)
Kind = tuple[tuple[int, int], dict[str, str]]


def console(socket: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.tui.fixed_console", "--socket", str(socket), *arguments]


def painted(
    socket: Path, kind: Kind, until: str, keys: tuple[str, ...] = (), arguments: tuple[str, ...] = ()
) -> Terminal:
    """Run the console until it shows a text, then press keys; the caller closes the terminal."""
    (columns, rows), environ = kind
    terminal = Terminal(console(socket, *arguments), columns=columns, rows=rows, environ=environ)
    try:
        terminal.until(until)
        terminal.type(*keys)
        terminal.settle()
    except BaseException:
        terminal.close()
        raise
    return terminal


@pytest.mark.parametrize(
    ("name", "scene", "terminal", "until", "keys"),
    [
        ("health-120x36-rich", "warn", (WIDE, RICH), "GPU 2 is hot", ()),
        ("health-80x24-serial", "warn", (NARROW, SERIAL), "GPU 2 is hot", ()),
        ("health-80x24-vt", "warn", (NARROW, VT), "GPU 2 is hot", ()),
        ("health-unknown-80x24-serial", "unknown", (NARROW, SERIAL), "?? running", ()),
        ("install-120x36-rich", "importing", (WIDE, RICH), "part 0004", ()),
        ("install-80x24-serial", "importing", (NARROW, SERIAL), "part 0004", ()),
        ("provision-120x36-rich", "provisioning", (WIDE, RICH), "busy", ()),
        ("failed-80x24-serial", "failed", (NARROW, SERIAL), "Remedy", ()),
        ("wizard-80x24-serial", "empty", (NARROW, SERIAL), "Where is the medium", ()),
        ("check-120x36-rich", "empty", (WIDE, RICH), "Where is the medium", ("/m", "enter")),
        ("help-80x24-serial", "warn", (NARROW, SERIAL), "GPU 2 is hot", ("?",)),
        ("palette-80x24-serial", "warn", (NARROW, SERIAL), "GPU 2 is hot", (":",)),
    ],
)
async def test_screen_is_as_recorded(
    on_stage: Stage, *, name: str, scene: str, terminal: Kind, until: str, keys: tuple[str, ...]
) -> None:
    daemon = await on_stage(scene)

    with await asyncio.to_thread(painted, daemon.socket, terminal, until, keys) as shown:
        # On a busy machine the last answer may come after the first pause.
        await asyncio.to_thread(shown.pump, 10, enough=lambda: is_golden(name, shown.text()))
        text = shown.text()

    check_golden(name, text)


@pytest.mark.parametrize(
    ("scene", "until"), [("warn", "GPU 2 is hot"), ("importing", "part 0004"), ("empty", "Where is the medium")]
)
async def test_serial_line_gets_little_and_only_ascii(on_stage: Stage, scene: str, until: str) -> None:
    daemon = await on_stage(scene)

    with await asyncio.to_thread(painted, daemon.socket, (NARROW, SERIAL), until) as terminal:
        assert terminal.received.isascii()
        assert len(terminal.received) <= FIRST_PAINT_BYTES
        for query in (b"$p", b"?1004h", b"?2004h", b"\x1b[>", b"?1000h"):
            assert query not in terminal.received


@pytest.mark.parametrize("environ", [RICH, SERIAL, VT])
async def test_no_color_leaves_no_colour_at_all_and_keeps_the_words(on_stage: Stage, environ: dict[str, str]) -> None:
    daemon = await on_stage("warn")

    mono = environ | {"NO_COLOR": "1"}
    with await asyncio.to_thread(painted, daemon.socket, (NARROW, mono), "GPU 2 is hot") as terminal:
        assert COLOR.findall(bytes(terminal.received)) == []
        assert "WARN" in terminal.text()
        assert any(reverse for row in terminal.cells() for *_, reverse, _ in row)


async def test_colour_is_there_without_no_color(on_stage: Stage) -> None:
    daemon = await on_stage("warn")

    with await asyncio.to_thread(painted, daemon.socket, (NARROW, SERIAL), "GPU 2 is hot") as terminal:
        assert COLOR.findall(bytes(terminal.received))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_terminal_is_restored_when_the_console_is_ended(on_stage: Stage, number: signal.Signals) -> None:
    daemon = await on_stage("warn")

    def end() -> tuple[int, bytes, bool, bool]:
        with painted(daemon.socket, (NARROW, RICH), "GPU 2 is hot") as terminal:
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

    def compare() -> tuple[list[str], int, int]:
        kind = (size, environ)
        with (
            painted(daemon.socket, kind, "GPU 2 is hot") as lean,
            painted(daemon.socket, kind, "GPU 2 is hot", (), ("--stock",)) as stock,
        ):
            different = []
            for key in ("", *keys):
                for terminal in (lean, stock):
                    terminal.type(key)
                if not _alike(lean, stock):
                    different.append(f"after {key!r}:\n{lean.text()}\n{stock.text()}")
            return different, len(lean.received), len(stock.received)

    different, lean_bytes, stock_bytes = await asyncio.to_thread(compare)

    assert different == []
    assert lean_bytes < stock_bytes


def _alike(one: Terminal, other: Terminal, timeout_s: float = 15) -> bool:
    """Read from both until they show the same cells and have paused; on a busy machine one may be late."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        one.settle()
        other.settle()
        if one.cells() == other.cells():
            return True
    return False


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
        with painted(daemon.socket, (WIDE, RICH), "GPU 2 is hot") as terminal:
            wide = terminal.text()
            terminal.resize(80, 24)
            terminal.process.send_signal(signal.SIGWINCH)
            terminal.settle()
            return wide, terminal.text()

    wide, narrow = await asyncio.to_thread(resize)

    assert "╭─ GPUs" in wide
    assert "╭─ GPUs" not in narrow
    assert "q Leave" in narrow
