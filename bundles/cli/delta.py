"""`leeward bundle inventory` on a node, `leeward bundle delta` on a build host."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundles.cli.voice import FILE, FOLDER, SECRETS, Voice, secrets, speaking
from bundles.errors import InventoryInvalid

if TYPE_CHECKING:
    from bundles.delta.inventory import SignedInventory
    from bundles.delta.write import SectionWorth

DATA = Path("/var/lib/leeward")


@click.command("inventory")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.option("--receipt", is_flag=True, help="Name releases only: small, for whoever still has their bundles.")
@click.option("--blocks", is_flag=True, help="Print it as lines for QR codes.")
@click.option("--qr", is_flag=True, help="Print it as QR codes.")
@click.option("--node", default=platform.node, help="The node's name.  [default: its host name]")
@click.option("--store", type=FOLDER, default=DATA / "store", show_default=True)
@click.option("--slots", type=FOLDER, default=DATA / "slots", show_default=True)
@click.option("--keys", "keys_folder", type=FOLDER, default=DATA / "evidence-keys", show_default=True)
@SECRETS
@speaking
def inventory_command(
    voice: Voice,
    *,
    out: Path | None,
    receipt: bool,
    blocks: bool,
    qr: bool,
    node: str,
    store: Path,
    slots: Path,
    keys_folder: Path,
    secret_descriptor: int | None,
) -> None:
    """Say what this node's store holds, signed with its evidence key. Reads every byte, changes nothing."""
    from tuf.api.metadata import Targets  # noqa: PLC0415  only what this command needs

    from bundles.delta.blocks import to_blocks  # noqa: PLC0415  the same
    from bundles.delta.inventory import sign_inventory  # noqa: PLC0415  the same
    from bundles.delta.take import take_inventory  # noqa: PLC0415  the same
    from bundles.keys import Keyring  # noqa: PLC0415  the same

    if not (out or blocks or qr):
        raise click.UsageError("say where it goes: --out FILE, --blocks or --qr")
    keyring = Keyring.load(keys_folder, secret=secrets(secret_descriptor))
    keyring.signers(Targets.type)  # a passphrase is asked for before hours of reading, not after
    now = datetime.now(UTC).replace(microsecond=0)
    taken = take_inventory(store=store, slots=slots, node=node, now=now, progress=voice.progress)
    voice.end_progress()
    content = sign_inventory(replace(taken, files=()) if receipt else taken, keyring)
    if out:
        out.write_bytes(content)
    lines = to_blocks(content) if blocks or qr else ()
    for line in lines:
        voice.say(_qr(line) if qr else line, "block", text=line)
    voice.say(
        f"{node}: {len(taken.releases)} releases, {len(taken.files)} files intact, {len(taken.damaged)} damaged or "
        f"missing; {len(content):,} bytes{f' in {out}' if out else ''}",
        "inventory",
        node=node,
        releases=[held.slot for held in taken.releases],
        files=len(taken.files),
        damaged=taken.damaged,
        size_bytes=len(content),
    )


@click.command("delta")
@click.argument("medium", type=FOLDER)
@click.option("--inventory", "inventory_file", type=FILE, required=True, help="The site's inventory, or its QR lines.")
@click.option("--site-root", type=FILE, help="The site's root.json: checks the inventory's signature.")
@click.option("--base", "bases", type=FOLDER, multiple=True, help="Bundle of a release that a receipt names.")
@click.option("--out", required=True, type=FOLDER, help="New folder, or one with a bundle to replace.")
@speaking
def delta_command(
    voice: Voice, medium: Path, *, inventory_file: Path, site_root: Path | None, bases: tuple[Path, ...], out: Path
) -> None:
    """Write a medium with only what a site lacks of the bundle on MEDIUM."""
    from bundles.delta.write import write_delta  # noqa: PLC0415  only what this command needs
    from bundles.layout import open_bundle  # noqa: PLC0415  the same

    known = _inventory(inventory_file, site_root)
    voice.say(
        f"Inventory of {known.inventory.node} at {known.inventory.created_at:%Y-%m-%d %H:%M} UTC, "
        + (f"signed by {', '.join(known.signed_by)}" if known.signed_by else "signature NOT checked (no --site-root)"),
        "inventory",
        node=known.inventory.node,
        created_at=known.inventory.created_at.isoformat(),
        signed_by=known.signed_by,
    )
    report = write_delta(
        open_bundle(medium),
        known.inventory,
        out=out,
        bases=tuple(map(open_bundle, bases)),
        progress=voice.progress,
    )
    voice.end_progress()
    tell_worth(voice, report.sections)
    voice.say(
        f"{report.release.name} {report.release.version}, epoch {report.release.epoch}, for {known.inventory.node}: "
        f"{report.carried_bytes:,} of {report.release.size_bytes:,} bytes, in {report.folder}",
        "delta",
        folder=str(report.folder),
        carried_bytes=report.carried_bytes,
        release_bytes=report.release.size_bytes,
        size_bytes=report.size_bytes,
    )


def tell_worth(voice: Voice, sections: Iterable[SectionWorth]) -> None:
    """Say what travels of each section of a release."""
    for one in sections:
        share = 100 * one.carried_bytes / one.size_bytes if one.size_bytes else 0.0
        voice.say(
            f"  {one.name:<24} {one.carried_bytes:>18,} of {one.size_bytes:>18,} bytes travel ({share:5.1f} %)",
            "section",
            name=one.name,
            size_bytes=one.size_bytes,
            carried_bytes=one.carried_bytes,
        )


def _inventory(path: Path, site_root: Path | None) -> SignedInventory:
    from tuf.api.exceptions import RepositoryError  # noqa: PLC0415  only what this command needs
    from tuf.api.metadata import Metadata, Root  # noqa: PLC0415  the same

    from bundles.delta.blocks import PREFIX, from_blocks  # noqa: PLC0415  the same
    from bundles.delta.inventory import MAX_INVENTORY_BYTES, read_inventory  # noqa: PLC0415  the same
    from bundles.refusal import MAX_ROOT_BYTES  # noqa: PLC0415  the same

    with path.open("rb") as stream:
        content = stream.read(MAX_INVENTORY_BYTES + 1)
    if content.lstrip().startswith(PREFIX.encode()):
        content = from_blocks(content.decode("ascii", errors="replace"))
    if site_root is None:
        return read_inventory(content)
    with site_root.open("rb") as stream:
        try:
            root = Metadata[Root].from_bytes(stream.read(MAX_ROOT_BYTES)).signed
        except RepositoryError as error:
            raise InventoryInvalid(
                detail=f"{site_root} is no root.json: {error}",
                remedy="Name the site's newest root.json, from an evidence bundle that you verified.",
            ) from error
    return read_inventory(content, root=root)


def _qr(line: str) -> str:
    """Draw a QR code of half-height blocks."""
    import io  # noqa: PLC0415  only where a code is drawn

    import segno  # noqa: PLC0415  the same

    drawn = io.StringIO()
    segno.make(line, error="m", micro=False).terminal(drawn, compact=True)
    return drawn.getvalue()
