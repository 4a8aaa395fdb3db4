"""`leeward bundle`: keys, build, verify, inspect. Also `python -m bundles`, where nothing else is installed.

Every command speaks to people, or with `--json` to programs: one JSON object a line, the verdict
last. Exit status: 0 good, 2 usage, 3 node, 4 trust, 130 interrupted (docs/design.md, Errors).

Verbs are loaded when they are called, and each verb imports what it needs inside its function, so
that `leeward bundle inspect` loads neither tuf nor cryptography. A new verb is a module here and a
line in VERBS.
"""

from __future__ import annotations

import click

from bundles.cli.lazy import LazyGroup
from bundles.cli.voice import grouped

__all__ = ["VERBS", "bundle", "grouped", "main"]

VERBS: dict[str, str] = {
    "anchor": "bundles.cli.reading:anchor_command",
    "approve": "bundles.cli.approving:approve_command",
    "approvers": "bundles.cli.approving:approvers_command",
    "build": "bundles.cli.making:build_command",
    "delta": "bundles.cli.delta:delta_command",
    "extract": "bundles.cli.extracting:extract_command",
    "inspect": "bundles.cli.reading:inspect_command",
    "inventory": "bundles.cli.delta:inventory_command",
    "keys": "bundles.cli.keys:keys",
    "labels": "bundles.cli.media:labels_command",
    "open-capture": "bundles.cli.capture:open_capture_command",
    "receipt": "bundles.cli.receipts:receipt",
    "repair": "bundles.cli.media:repair_command",
    "repair-request": "bundles.cli.media:repair_request_command",
    "sbom": "bundles.cli.sbom:sbom_command",
    "seal": "bundles.cli.signing:seal_command",
    "sign": "bundles.cli.signing:sign_command",
    "split": "bundles.cli.media:split_command",
    "verify": "bundles.cli.reading:verify_command",
}


@click.group("bundle", cls=LazyGroup, verbs=VERBS)
def bundle() -> None:
    """Make, verify and inspect the signed bundles that cross the gap."""


def main() -> None:
    """Run `leeward bundle` as a program of its own."""
    bundle()
