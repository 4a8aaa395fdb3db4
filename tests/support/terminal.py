"""A terminal without a screen: runs a program in a pty, understands what it sends, draws it as text or PNG.

    python -m tests.support.terminal --size 120x36 --png out.png --until Events --keys "down enter" -- \\
        leeward-console --socket /run/leeward/management.sock

pyte plays the terminal, so what is seen is what the bytes say: colours, ASCII, cursor moves and all.
Pictures use DejaVu Sans Mono (Debian: fonts-dejavu-core); block elements are drawn as rectangles, as
terminals do. Only the program that was started here is ever ended.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyte
from PIL import Image, ImageDraw, ImageFont

FONTS = Path("/usr/share/fonts/truetype/dejavu")
BACKGROUND, FOREGROUND = (12, 12, 12), (204, 204, 204)
VGA = {
    "black": "000000", "red": "aa0000", "green": "00aa00", "brown": "aa5500", "blue": "0000aa", "magenta": "aa00aa",
    "cyan": "00aaaa", "white": "aaaaaa", "brightblack": "555555", "brightred": "ff5555", "brightgreen": "55ff55",
    "brightbrown": "ffff55", "brightyellow": "ffff55", "brightblue": "5555ff", "brightmagenta": "ff55ff",
    "bfightmagenta": "ff55ff", "brightcyan": "55ffff", "brightwhite": "ffffff",
}  # fmt: skip
KEYS = {
    "enter": "\r", "esc": "\x1b", "tab": "\t", "space": " ", "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C",
    "left": "\x1b[D", "pageup": "\x1b[5~", "pagedown": "\x1b[6~", "backspace": "\x7f",
}  # fmt: skip
# Private modes and keyboard protocols that pyte prints or trips over; real terminals swallow them.
UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p|\x1b\]22;[^\x07\x1b]*(\x07|\x1b\\)")
# Which way a corner goes from its middle: right or left, down or up.
CORNERS = {"╭": (1, 1), "╮": (-1, 1), "╰": (1, -1), "╯": (-1, -1)}
QUIET_S = 0.3


class _Screen(pyte.Screen):  # type: ignore[misc]  # pyte has no types
    """pyte's screen; it hands `private` to methods that do not take it."""

    def select_graphic_rendition(self, *codes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*codes)

    def set_margins(self, *margins: int, private: bool = False) -> None:
        if not private:
            super().set_margins(*margins)

    def report_device_status(self, *_: int, **__: bool) -> None:
        """Answer nothing: the console must not need an answer."""


class Terminal:
    """One program in one pty. `received` holds every byte that it sent."""

    def __init__(
        self, command: Sequence[str], *, columns: int, rows: int, environ: Mapping[str, str] | None = None
    ) -> None:
        self.columns, self.rows = columns, rows
        self.received = bytearray()
        self._screen = _Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = os.openpty()
        self.resize(columns, rows)
        self.modes_before = termios.tcgetattr(slave)
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LEEWARD_SOCKET") if name in os.environ}
        wanted = {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | dict(environ or {})
        self.process = subprocess.Popen(
            list(command), stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=plain | wanted
        )
        # Kept open: a pty whose last slave is closed forgets its modes, and they are to be compared.
        self._slave = slave

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pump(self, seconds: float, *, enough: Callable[[], bool] = lambda: False) -> bool:
        """Read for a time, or until it is enough; returns whether it was."""
        end = time.monotonic() + seconds
        while not enough():
            left = end - time.monotonic()
            if left <= 0:
                return False
            ready, _, _ = select.select([self._master], [], [], min(left, 0.05))
            if ready:
                self._take(os.read(self._master, 65_536))
            elif self.process.poll() is not None:
                return enough()
        return True

    def until(self, text: str, timeout_s: float = 20) -> None:
        """Read until `text` is on the screen and the program has paused; raises AssertionError."""
        if not self.pump(timeout_s, enough=lambda: text in self.text()):
            raise AssertionError(f"{text!r} did not appear within {timeout_s} s; the screen:\n{self.text()}")
        self.settle()

    def settle(self) -> None:
        """Read until nothing has come for a moment."""
        before = -1
        while before != len(self.received):
            before = len(self.received)
            self.pump(QUIET_S)

    def type(self, *keys: str) -> None:
        """Press keys, by name (`enter`, `ctrl+l`) or as text."""
        for key in keys:
            control = re.fullmatch(r"ctrl\+([a-z])", key)
            code = chr(ord(control[1]) - 96) if control else KEYS.get(key, key)
            os.write(self._master, code.encode())
            self.pump(QUIET_S)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size as a terminal window does."""
        self.columns, self.rows = columns, rows
        self._screen.resize(rows, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end_with(self, number: signal.Signals, timeout_s: float = 10) -> int:
        """Send a signal and return the exit status, having read all that came before it."""
        self.process.send_signal(number)
        self.pump(timeout_s, enough=lambda: self.process.poll() is not None)
        self.pump(0.2)
        return self.process.wait(timeout=1)

    def modes(self) -> list[Any]:
        """Return the line's modes as the program left them."""
        return termios.tcgetattr(self._slave)

    def text(self) -> str:
        """Return the screen as lines without trailing spaces."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def cells(self) -> list[list[tuple[str, str, str, bool, bool, bool]]]:
        """Return each cell's character, colours, and whether it is bold, reverse, underlined."""
        return [
            [(c.data, c.fg, c.bg, c.bold, c.reverse, c.underscore) for c in (row[x] for x in range(self.columns))]
            for row in (self._screen.buffer[y] for y in range(self.rows))
        ]

    def png(self, path: Path, size: int = 15) -> None:
        """Draw the screen."""
        fonts = [ImageFont.truetype(FONTS / f"DejaVuSansMono{weight}.ttf", size) for weight in ("", "-Bold")]
        width, height = round(fonts[0].getlength("M")), round(size * 1.25)
        image = Image.new("RGB", (width * self.columns, height * self.rows), BACKGROUND)
        draw = ImageDraw.Draw(image)
        for y, row in enumerate(self.cells()):
            for x, (character, front, back, bold, reverse, underlined) in enumerate(row):
                colors = _rgb(front, FOREGROUND), _rgb(back, BACKGROUND)
                ink, paper = reversed(colors) if reverse else colors
                left, top, right, bottom = x * width, y * height, (x + 1) * width - 1, (y + 1) * height - 1
                if paper != BACKGROUND:
                    draw.rectangle((left, top, right, bottom), fill=paper)
                if underlined:
                    draw.line((left, bottom - 1, right, bottom - 1), fill=ink)
                _draw_character(draw, character, (left, top, right, bottom), ink, fonts[bold])
        image.save(path, optimize=True)

    def close(self) -> None:
        """End the program if it still runs, and let go of the pty."""
        if self.process.poll() is None:
            self.process.terminate()
            self.pump(3, enough=lambda: self.process.poll() is not None)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in (self._slave, self._master):
            os.close(descriptor)

    def _take(self, received: bytes) -> None:
        self.received += received
        self._stream.feed(UNKNOWN_TO_PYTE.sub(b"", received))


def _rgb(color: str, default: tuple[int, int, int]) -> tuple[int, int, int]:
    if color == "default":
        return default
    value = VGA.get(color, color)
    return int(value[0:2], 16), int(value[2:4], 16), int(value[4:6], 16)


def _draw_character(
    draw: ImageDraw.ImageDraw,
    character: str,
    box: tuple[int, int, int, int],
    ink: tuple[int, int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    left, top, right, bottom = box
    middle, center = (top + bottom) // 2, (left + right) // 2
    code = ord(character[0]) if character else 32
    if 0x2581 <= code <= 0x2588:  # lower blocks, one to eight eighths
        draw.rectangle((left, bottom + 1 - round((bottom - top + 1) * (code - 0x2580) / 8), right, bottom), fill=ink)
    elif character in "─━":
        thick = 1 if character == "━" else 0
        draw.rectangle((left, middle - thick, right, middle + thick), fill=ink)
    elif character in CORNERS:
        across, along = CORNERS[character]
        draw.line((center, middle, right if across > 0 else left, middle), fill=ink)
        draw.line((center, middle, center, bottom if along > 0 else top), fill=ink)
    elif character == "│":
        draw.line((center, top, center, bottom), fill=ink)
    elif character != " ":
        draw.text((left, top), character, font=font, fill=ink)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a program, press keys, and write down what is on the screen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="120x36", help="columns x rows")
    parser.add_argument("--term", default="xterm-256color")
    parser.add_argument("--env", action="append", default=["COLORTERM=truecolor"], metavar="NAME=VALUE")
    parser.add_argument("--until", default="", help="text to wait for before keys are pressed")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds to read after the text, and after the keys")
    parser.add_argument("--keys", default="", help="keys, separated by spaces; names as in this module")
    parser.add_argument("--png", type=Path)
    parser.add_argument("--text", action="store_true", help="print the screen")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    columns, _, rows = options.size.partition("x")
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    environ = dict(setting.split("=", 1) for setting in options.env) | {"TERM": options.term}
    with Terminal(command, columns=int(columns), rows=int(rows), environ=environ) as terminal:
        if options.until:
            terminal.until(options.until)
        terminal.pump(options.wait)
        for key in options.keys.split():
            terminal.type(key)
        if options.keys:
            terminal.pump(options.wait)
        if options.png:
            terminal.png(options.png)
        if options.text:
            sys.stdout.write(terminal.text() + "\n")
        sys.stderr.write(f"{len(terminal.received)} bytes\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
