"""The page that lists all checks, docs/preflight.md, for the people who run them."""

from __future__ import annotations

from typing import Final

from appliance.checks import CHECKS, Check, Group

_HEAD: Final = """\
# Preflight

`leeward preflight --medium DIR` asks the node {count} questions before a release is let in, and changes nothing. The
operations `install`, `import` and `provision` ask them again as their first step. Without `--medium` the questions
that depend on a release say what they see.

| you want | you run |
|---|---|
| the answers as a table | `leeward preflight --medium /media/leeward` |
| one JSON object a line | `leeward preflight --medium /media/leeward --json` |
| warnings to block as well | `--strict`, with `preflight`, `install`, `import` and `provision` |
| to go on in spite of a finding | `--waive CHECK --reason TEXT`, with the same verbs; may be repeated |
| what was observed, to send away | `leeward facts --json --redact` |

**Exit status**: 0 where nothing blocks, 3 where something does, 2 for a wrong option or a waiver that is not allowed.

**Answers**: `ok`; `WARN`, where a person should look but going on can end well; `BLOCKS`, where going on cannot end
well; `WAIVED`, where an administrator has said why it may. A waiver holds for one run of one verb. It is written to the
audit log with name, reason and what was found, and the finding stays on every screen and in the journal as waived.
Checks marked *firm* cannot be waived: trust, the clock by which signatures are judged, and room.

What cannot be read is unknown and warned of, never guessed. Disks are measured for less than a second: block devices
are only read, and what is written goes to an unnamed file in Leeward's own folder. `--redact` replaces names, serial
numbers, UUIDs and addresses by pseudonyms that are the same each time on one node and mean nothing elsewhere. GPUs and
NVSwitches have not been seen on hardware yet: those checks are tested on composed nodes and on a simulated NVML.

This page is made by `python -m appliance.checks`; a test compares them.
"""


def page() -> str:
    """Return docs/preflight.md."""
    parts = [_HEAD.format(count=len(CHECKS))]
    for group in Group:
        rows = [_row(check) for check in CHECKS if check.group is group]
        parts.append("\n".join([f"\n## {group}\n", "| check | question | why | |", "|---|---|---|---|", *rows, ""]))
    return "".join(parts)


def _row(check: Check) -> str:
    return f"| `{check.id}` | {check.title} | {check.why} | {'' if check.waivable else '*firm*'} |"
