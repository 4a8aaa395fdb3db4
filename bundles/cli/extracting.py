"""`leeward bundle extract`: a verified bundle as plain files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bundles.cli.reading import DEFAULT_STATE, DEFAULT_STORE, tell_verified, trust_of
from bundles.cli.voice import FILE, FOLDER, Voice, speaking


@click.command("extract")
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.option("--out", required=True, type=FOLDER, help="New folder for the files.")
@click.option("--root", "root_file", type=FILE, help="A root.json that you trust already.")
@click.option("--root-fingerprint", metavar="HEX", help="SHA-256 of the first root, from paper.")
@click.option("--state", type=FOLDER, help=f"A site's trusted state.  [default: {DEFAULT_STATE}]")
@click.option("--store", type=FOLDER, default=DEFAULT_STORE, show_default=True, help="What a delta builds on.")
@speaking
def extract_command(
    voice: Voice,
    media: tuple[Path, ...],
    *,
    out: Path,
    root_file: Path | None,
    root_fingerprint: str | None,
    state: Path | None,
    store: Path,
) -> None:
    """Verify the bundle at MEDIA, evidence or release, and write its files to --out. Nothing is overwritten.

    The folder appears when every byte is as signed, or not at all. A delta is put together with the node's
    store that it was made for.
    """
    if sum(given is not None for given in (root_file, root_fingerprint, state)) > 1:
        raise click.UsageError("give only one of --root, --root-fingerprint and --state")
    from bundles.delta.rebuild import open_delta  # noqa: PLC0415  only what this command needs
    from bundles.extract import extract  # noqa: PLC0415  the same
    from bundles.media.opening import open_media  # noqa: PLC0415  the same

    opened = open_media(media)
    with trust_of(opened.bundle, root_file, root_fingerprint, state) as trust:
        verified = opened.check(trust, now=datetime.now(UTC))
    tell_verified(voice, verified)
    release = verified.release
    delta = open_delta(opened.bundle, store) if opened.is_plain else None
    extract(delta or opened.blobs(release), verified, out.absolute(), progress=voice.progress)
    voice.end_progress()
    voice.say(
        f"VERIFIED and written to {out}: {len(release.files)} files, {release.size_bytes:,} bytes, as signed.",
        "extracted",
        folder=str(out),
        files=len(release.files),
        size_bytes=release.size_bytes,
    )
