from __future__ import annotations

from pathlib import Path

from appliance.checks import CHECKS
from appliance.checks.table import page

PAGE = Path(__file__).parents[3] / "docs/preflight.md"


def test_the_page_is_what_the_checks_say_of_themselves() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m appliance.checks > docs/preflight.md`"


def test_the_page_names_every_check_once_and_marks_the_firm_ones() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]

    assert len([row for row in rows if any(row.startswith(f"| `{check.id}` |") for check in CHECKS)]) == len(CHECKS)
    assert {check.id for check in CHECKS if not check.waivable} == {
        "clock",
        "trust-root",
        "disk-space",
        "inodes",
        "boot-room",
        "writable",
    }
