"""`leeward bundle open-capture`: what an auditor reads of captured exchanges, on a machine of their own."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bundles.cli.voice import FILE, SECRETS, Voice, secrets, speaking


@click.command("open-capture")
@click.argument("file", type=FILE)
@click.option("--key", "key_file", type=FILE, required=True, help="The auditor's private key (PEM).")
@SECRETS
@speaking
def open_capture_command(voice: Voice, file: Path, *, key_file: Path, secret_descriptor: int | None) -> None:
    """Open the captured exchanges in FILE, one JSON object a line; lines that do not open are named and counted."""
    from bundles.capture import unseal  # noqa: PLC0415  keeps `inspect` quick
    from bundles.errors import ContentMismatch  # noqa: PLC0415  the same
    from bundles.private_keys import open_exchange_key  # noqa: PLC0415  the same

    key = open_exchange_key(key_file, secrets(secret_descriptor))
    opened, refused = 0, list[str]()
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                captured = unseal(line.rstrip(b"\n"), key)
            except ContentMismatch as error:
                refused.append(f"line {number}: {error.detail}")
                continue
            opened += 1
            values = {name: getattr(captured, name) for name in captured.__slots__}
            voice.say(json.dumps(values, ensure_ascii=False), "exchange", **values)
    if refused:
        raise ContentMismatch(
            detail=f"{opened} exchanges were opened, {len(refused)} lines were not. {refused[0]}",
            remedy="A last line may be cut where the gateway was killed. Any other: keep the file, ask who held it.",
        )
