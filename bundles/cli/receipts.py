"""`leeward bundle receipt`: the chain of custody of a bundle, hop by hop."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundles.cli.voice import FILE, FOLDER, SECRETS, Voice, harmless, one_line, secrets, speaking

if TYPE_CHECKING:
    from tuf.api.metadata import Root

    from bundles.media.opening import Media

_ACTS = ("build", "burn", "handover", "import")


@click.group("receipt")
def receipt() -> None:
    """Who did what with a bundle: signed receipts, each bound to the one before."""


@receipt.command("add")
@click.argument("folder", type=FOLDER)
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.option("--act", type=click.Choice(_ACTS), required=True, help="What was done.")
@click.option("--by", required=True, metavar="NAME", help="Who did it.")
@click.option("--place", default="", metavar="TEXT", help="Where.")
@click.option("--note", default="", metavar="TEXT", help="What else is to be said.")
@click.option("--keys", "keys_folder", required=True, type=FOLDER, help="Keyring of the publisher or of the site.")
@SECRETS
@speaking
def add_command(
    voice: Voice,
    folder: Path,
    media: tuple[Path, ...],
    *,
    act: str,
    by: str,
    place: str,
    note: str,
    keys_folder: Path,
    secret_descriptor: int | None,
) -> None:
    """Sign the next receipt about the bundle or volumes at MEDIA and put it into FOLDER."""
    from bundles.media.opening import open_media  # noqa: PLC0415  only what this command needs

    opened = open_media(media)
    _add(voice, folder, opened, act=act, by=by, place=place, said=note, keys=(keys_folder, secret_descriptor))


@receipt.command("scan")
@click.argument("folder", type=FOLDER)
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.option("--command", required=True, metavar="LINE", help="The scanner; the medium's folder is added at the end.")
@click.option("--by", required=True, metavar="NAME", help="Who had it scanned.")
@click.option("--place", default="", metavar="TEXT", help="Where.")
@click.option("--keys", "keys_folder", required=True, type=FOLDER, help="The site's keyring.")
@SECRETS
@speaking
def scan_command(
    voice: Voice,
    folder: Path,
    media: tuple[Path, ...],
    *,
    command: str,
    by: str,
    place: str,
    keys_folder: Path,
    secret_descriptor: int | None,
) -> None:
    """Scan each of MEDIA with the site's scanner; a clean verdict becomes the next receipt in FOLDER."""
    from bundles.media.opening import open_media  # noqa: PLC0415  only what this command needs
    from bundles.media.scan import scan  # noqa: PLC0415  the same

    try:
        words = shlex.split(command)
    except ValueError as error:
        raise click.UsageError(f"--command {command!r}: {error}") from error
    opened = open_media(media)
    verdicts = [scan(volume.bundle.path, words) for volume in opened.volumes]
    said = "\n".join(f"{shlex.join(verdict.command)}: {verdict.said or 'clean'}" for verdict in verdicts)
    _add(voice, folder, opened, act="scan", by=by, place=place, said=said, keys=(keys_folder, secret_descriptor))


@receipt.command("list")
@click.argument("folder", type=FOLDER)
@click.option("--root", "root_files", type=FILE, multiple=True, required=True, help="The first root of each keyring.")
@click.option("--medium", type=FOLDER, help="Check that the receipts are about this bundle.")
@speaking
def list_command(voice: Voice, folder: Path, root_files: tuple[Path, ...], medium: Path | None) -> None:
    """Check the chain of receipts in FOLDER and show it."""
    from bundles.digest import sha256_hex  # noqa: PLC0415  only what this command needs
    from bundles.layout import manifest_bytes, open_bundle  # noqa: PLC0415  the same
    from bundles.media.receipts import ReceiptFolder  # noqa: PLC0415  the same

    release = None if medium is None else sha256_hex(manifest_bytes(open_bundle(medium)))
    found = ReceiptFolder(folder).read(_roots(root_files), release=release)
    for number, one in enumerate(found, start=1):
        hop = one.receipt
        who = one_line(f"{hop.by}{f', {hop.place}' if hop.place else ''}")
        voice.say(
            f"{number:3d}  {hop.at:%Y-%m-%d %H:%M}  {hop.act:<8}  {who}  "
            f"{' '.join(hop.volumes)}  signed by {', '.join(one.signed_by)} of {hop.root[:16]}"
            f"{f'  {harmless(hop.said)}' if hop.said else ''}",
            "receipt",
            number=number,
            act=hop.act,
            at=hop.at.isoformat(),
            by=hop.by,
            place=hop.place,
            volumes=hop.volumes,
            said=hop.said,
            signed_by=one.signed_by,
            root=hop.root,
            sha256=one.sha256,
        )
    voice.say(f"{len(found)} receipts make one chain.", "chain", receipts=len(found))


def _add(
    voice: Voice,
    folder: Path,
    media: Media,
    *,
    act: str,
    by: str,
    place: str,
    said: str,
    keys: tuple[Path, int | None],
) -> None:
    from bundles.digest import sha256_hex  # noqa: PLC0415  only what this command needs
    from bundles.keys import Keyring  # noqa: PLC0415  the same
    from bundles.layout import manifest_bytes  # noqa: PLC0415  the same
    from bundles.media.receipts import Act, ReceiptFolder  # noqa: PLC0415  the same

    keyring = Keyring.load(keys[0], secret=secrets(keys[1]))
    made = ReceiptFolder(folder).add(
        keyring,
        Act(act),
        release=sha256_hex(manifest_bytes(media.bundle)),
        by=by,
        place=place,
        at=datetime.now(UTC),
        volumes=tuple(volume.header.label for volume in media.volumes if volume.header),
        said=said,
    )
    voice.say(f"Receipt: {made.act} by {made.by}, in {folder}.", "receipt", act=made.act, by=made.by)


def _roots(files: Iterable[Path]) -> dict[str, Root]:
    """Read roots, by the fingerprint of the first; a person vouches for them by naming the files."""
    from tuf.api.exceptions import RepositoryError  # noqa: PLC0415  only what this command needs
    from tuf.api.metadata import Metadata, Root  # noqa: PLC0415  the same

    from bundles.digest import sha256_hex  # noqa: PLC0415  the same
    from bundles.refusal import MAX_ROOT_BYTES  # noqa: PLC0415  the same

    found = {}
    for path in files:
        with path.open("rb") as stream:
            content = stream.read(MAX_ROOT_BYTES)
        try:
            found[sha256_hex(content)] = Metadata[Root].from_bytes(content).signed
        except RepositoryError as error:
            raise click.UsageError(f"{path} is no root.json: {error}") from error
    return found
