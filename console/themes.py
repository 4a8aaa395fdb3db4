"""Three looks: dark for full colour, contrast for tired eyes, and sixteen for everything else.

The sixteen-colour look uses the terminal's own palette, so it is also what `NO_COLOR` starts from.
"""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="leeward-dark",
    primary="#5fb3ff",
    secondary="#31588a",
    warning="#ffc145",
    error="#ff5d5d",
    success="#55d187",
    accent="#5fb3ff",
    foreground="#d7dce2",
    background="#0d1117",
    surface="#0d1117",
    panel="#161c26",
    variables={
        "edge": "#2e3b4e",
        "bar-bg": "#1c3b63",
        "bar-fg": "#ffffff",
        "bad-fg": "#000000",
        "sel-bg": "#24466f",
        "sel-fg": "#ffffff",
        "sel-style": "none",
        "mute": "#8793a3",
        "bar-on": "#5fb3ff",
        "spark": "#4a7fb5",
    },
)

CONTRAST = Theme(
    name="leeward-contrast",
    primary="#00ffff",
    secondary="#ffffff",
    warning="#ffff00",
    error="#ff6060",
    success="#00ff00",
    accent="#00ffff",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    variables={
        "edge": "#ffffff",
        "bar-bg": "#ffffff",
        "bar-fg": "#000000",
        "bad-fg": "#000000",
        "sel-bg": "#000000",
        "sel-fg": "#ffffff",
        "sel-style": "reverse",
        "mute": "#ffffff",
        "bar-on": "#ffffff",
        "spark": "#ffffff",
    },
)

SIXTEEN = Theme(
    name="leeward-16",
    ansi=True,
    primary="ansi_cyan",
    secondary="ansi_blue",
    warning="ansi_bright_yellow",
    error="ansi_bright_red",
    success="ansi_green",
    accent="ansi_cyan",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables={
        "edge": "ansi_default",
        "bar-bg": "ansi_blue",
        "bar-fg": "ansi_bright_white",
        "bad-fg": "ansi_black",
        "sel-bg": "ansi_default",
        "sel-fg": "ansi_default",
        "sel-style": "reverse",
        "mute": "ansi_default",
        "bar-on": "ansi_default",
        "spark": "ansi_cyan",
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
        "border-blurred": "ansi_blue",
        "block-cursor-foreground": "ansi_black",
        "block-cursor-background": "ansi_cyan",
        "input-cursor-foreground": "ansi_black",
        "input-cursor-background": "ansi_white",
        "input-selection-background": "ansi_blue",
        "input-selection-foreground": "ansi_white",
    },
)

ALL = (DARK, CONTRAST, SIXTEEN)
