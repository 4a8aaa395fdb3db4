"""`leeward bundle build`: from a recipe to a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from bundles.cli.delta import tell_worth
from bundles.cli.voice import FILE, FOLDER, SECRETS, Voice, grouped, secrets, speaking


@click.command("build")
@click.argument("recipe", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="New folder, or one with a bundle to replace.")
@click.option("--keys", "keys_folder", required=True, type=FOLDER, help="The publisher's keyring.")
@click.option("--cache", type=FOLDER, help="Where downloads stay.  [default: ~/.cache/leeward]")
@click.option("--since", type=FOLDER, help="An earlier bundle: tell what a delta from it would be worth.")
@click.option("--unsigned", is_flag=True, help="Let release signers sign: `leeward bundle sign`, then `seal`.")
@SECRETS
@speaking
def build_command(
    voice: Voice,
    recipe: Path,
    *,
    out: Path,
    keys_folder: Path,
    cache: Path | None,
    since: Path | None,
    unsigned: bool,
    secret_descriptor: int | None,
) -> None:
    """Build the bundle of RECIPE. Needs a network where its sources do."""
    from bundles.build import build  # noqa: PLC0415  keeps `inspect` quick
    from bundles.keys import Keyring  # noqa: PLC0415  the same
    from bundles.layout import Bundle, open_bundle, peek  # noqa: PLC0415  the same

    base = None if since is None else open_bundle(since)
    report = build(
        recipe,
        out=out,
        keyring=Keyring.load(keys_folder, secret=secrets(secret_descriptor)),
        cache=cache or Path.home() / ".cache" / "leeward",
        progress=voice.progress,
        unsigned=unsigned,
    )
    voice.end_progress()
    for name, size in sorted(report.sections.items()):
        voice.say(f"  {name:<24} {size:>18,} bytes", "section", name=name, size_bytes=size)
    voice.say(
        f"{report.release.name} {report.release.version}, epoch {report.release.epoch}: "
        f"{report.files} files, {report.size_bytes:,} bytes in {report.folder}",
        "bundle",
        folder=str(report.folder),
        files=report.files,
        size_bytes=report.size_bytes,
        slot=report.release.slot,
    )
    if base is not None:
        from bundles.delta.worth import worth  # noqa: PLC0415  the same

        found, before = worth(Bundle(report.folder), base, progress=voice.progress), peek(base)
        voice.end_progress()
        voice.say(f"As a delta for a site that holds {before.name} {before.version}, epoch {before.epoch}:", "since")
        tell_worth(voice, found)
    if unsigned:
        voice.say(
            "NOT SIGNED: nothing imports it yet. Signers run `leeward bundle sign`, then you `leeward bundle seal`.",
            "unsigned",
            signed=False,
        )
    voice.say("Print these two and send them another way than the medium:", "advice")
    voice.say(
        f"  root       {grouped(report.root_fingerprint)}", "fingerprint", of="root", sha256=report.root_fingerprint
    )
    if report.bootstrap_fingerprint:
        voice.say(
            f"  bootstrap  {grouped(report.bootstrap_fingerprint)}",
            "fingerprint",
            of="bootstrap",
            sha256=report.bootstrap_fingerprint,
        )
