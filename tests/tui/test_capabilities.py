from __future__ import annotations

import pytest

from console.capabilities import GLYPHS, Profile, choose

UTF8 = {"LANG": "en_GB.UTF-8"}
SSH = "/dev/pts/3"


@pytest.mark.parametrize(
    ("environ", "tty", "profile"),
    [
        (UTF8 | {"TERM": "xterm-256color"}, SSH, Profile.RICH),
        (UTF8 | {"TERM": "tmux-256color"}, SSH, Profile.RICH),
        (UTF8 | {"TERM": "linux"}, "/dev/tty1", Profile.VT),
        (UTF8 | {"TERM": "xterm-256color"}, "/dev/ttyS0", Profile.SERIAL),
        (UTF8 | {"TERM": "linux"}, "/dev/ttyAMA0", Profile.SERIAL),
        (UTF8 | {"TERM": "linux"}, "/dev/hvc0", Profile.SERIAL),
        (UTF8 | {"TERM": "vt220"}, SSH, Profile.SERIAL),
        ({"LANG": "C", "TERM": "xterm"}, SSH, Profile.SERIAL),
        ({"TERM": "xterm"}, SSH, Profile.SERIAL),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C", "TERM": "xterm"}, SSH, Profile.SERIAL),
        (UTF8 | {"TERM": "dumb"}, SSH, Profile.NONE),
        (UTF8, SSH, Profile.NONE),
        (UTF8 | {"TERM": "xterm"}, None, Profile.NONE),
    ],
)
def test_profile_follows_terminal_line_and_locale(environ: dict[str, str], tty: str | None, profile: Profile) -> None:
    assert choose(environ, tty=tty).profile is profile


def test_forced_profile_beats_the_guess_but_not_a_missing_terminal() -> None:
    assert choose(UTF8 | {"TERM": "xterm"}, tty=SSH, forced=Profile.SERIAL).profile is Profile.SERIAL
    assert choose(UTF8 | {"TERM": "xterm"}, tty=None, forced=Profile.RICH).profile is Profile.NONE


def test_plain_beats_everything() -> None:
    assert choose(UTF8 | {"TERM": "xterm"}, tty=SSH, forced=Profile.RICH, plain=True).profile is Profile.NONE


def test_no_color_takes_colour_out_of_any_profile_and_an_empty_one_does_not() -> None:
    assert not choose(UTF8 | {"TERM": "xterm", "NO_COLOR": "1"}, tty=SSH).color
    assert not choose(UTF8 | {"TERM": "vt220", "NO_COLOR": "1"}, tty=SSH).color
    assert choose(UTF8 | {"TERM": "xterm", "NO_COLOR": ""}, tty=SSH).color


def test_serial_glyphs_are_ascii() -> None:
    glyphs = GLYPHS[Profile.SERIAL]

    assert all(getattr(glyphs, name).isascii() for name in glyphs.__dataclass_fields__)
