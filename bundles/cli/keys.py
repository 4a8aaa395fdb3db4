"""`leeward bundle keys`: the keys that sign bundles."""

from __future__ import annotations

from pathlib import Path

import click

from bundles.cli.voice import FOLDER, Voice, grouped, speaking


@click.group("keys")
def keys() -> None:
    """The keys that sign bundles."""


@keys.command("init")
@click.argument("directory", type=FOLDER)
@click.option("--site", is_flag=True, help="Keys of a site that signs its evidence: one a role.")
@speaking
def keys_init(voice: Voice, directory: Path, *, site: bool) -> None:
    """Make a new keyring in the new folder DIRECTORY."""
    from bundles.keys import Keyring  # noqa: PLC0415  keeps `inspect` quick

    keyring = Keyring.create_site(directory) if site else Keyring.create(directory)
    fingerprint = keyring.fingerprint
    voice.say(f"Keys are in {directory}: one PEM file each, readable by you only.", "keys", directory=str(directory))
    voice.say("Move each to its holder's own safe; bring together as many as the thresholds ask for.", "advice")
    voice.say(
        f"Root fingerprint, to be printed and carried on paper:\n  {grouped(fingerprint)}",
        "root",
        fingerprint=fingerprint,
    )
