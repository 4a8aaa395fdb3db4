from __future__ import annotations

import pyte
import pytest
import textual
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style

from appliance.client import ApplianceClient
from console import output
from console.app import ConsoleApp
from console.capabilities import Capabilities, Profile
from console.output import Cell, CellDiff, GlyphFilter
from tests.tui.recorded import NOW

RED = Style.parse("red")


def rows(*lines: str, style: Style | None = None) -> list[list[Cell]]:
    return [[Cell(character, style) for character in line] for line in lines]


def shown(*sent: str) -> list[str]:
    screen = pyte.Screen(10, 2)
    stream = pyte.Stream(screen)
    for part in sent:
        stream.feed(part)
    return list(screen.display)


def test_same_screen_sends_nothing() -> None:
    diff = CellDiff(ColorSystem.STANDARD)
    diff.update(rows("hello     ", "world     "))

    assert diff.update(rows("hello     ", "world     ")) == ""


def test_one_changed_cell_sends_little_and_arrives() -> None:
    diff = CellDiff(ColorSystem.STANDARD)
    first = diff.update(rows("hello     ", "world     "))
    second = diff.update(rows("hello     ", "wOrld     "))

    assert "hello" not in second
    assert len(second) < 20
    assert shown(first, second) == ["hello     ", "wOrld     "]


def test_text_that_goes_away_is_erased() -> None:
    diff = CellDiff(ColorSystem.STANDARD)
    first = diff.update(rows("0123456789", "0123456789"))
    second = diff.update(rows("01        ", "          "))

    assert shown(first, second) == ["01        ", "          "]


def test_another_size_and_a_forgotten_screen_send_everything() -> None:
    diff = CellDiff(ColorSystem.STANDARD)
    diff.update(rows("hello"))

    assert "hello" in diff.update(rows("hello", "world"))
    diff.forget()
    assert "hello" in diff.update(rows("hello", "world"))


def test_colour_alone_is_a_change_and_no_colour_system_means_no_codes() -> None:
    diff = CellDiff(ColorSystem.STANDARD)
    diff.update(rows("hello"))
    assert "\x1b[0;31m" in diff.update(rows("hello", style=RED))

    mono = CellDiff(None)
    assert "31" not in mono.update(rows("hello", style=RED))


@pytest.mark.parametrize("profile", [Profile.VT, Profile.SERIAL])
def test_translated_glyphs_keep_their_width(profile: Profile) -> None:
    glyphs = GlyphFilter(profile)

    for text in ("╭─ GPUs ─╮", "▁▂▃▄▅▆▇█", "84 °C … 4 to 2 — ok", "日本"):
        assert cell_len(glyphs.translate(text)) == cell_len(text)


def test_serial_glyphs_are_ascii_whatever_comes() -> None:
    assert GlyphFilter(Profile.SERIAL).translate("é ✓ 日本 \u2713 ▇").isascii()


async def test_our_output_steps_aside_for_a_textual_it_was_not_tested_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConsoleApp, "is_headless", False)
    async with ApplianceClient() as client:
        app = ConsoleApp(client, Capabilities(profile=Profile.RICH), now=lambda: NOW)
        assert textual.__version__ == output.TESTED_TEXTUAL
        assert app.is_lean

        monkeypatch.setattr(textual, "__version__", "99.0.0")
        assert not app.is_lean
