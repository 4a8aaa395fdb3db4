"""`leeward bundle split`, `labels`, `repair-request` and `repair`: a bundle over several volumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundles.cli.voice import FILE, FOLDER, Voice, speaking

if TYPE_CHECKING:
    from bundles.media.header import VolumeHeader
    from bundles.media.kept import Kept

NODE = Path("/var/lib/leeward")
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([MGT]I?B)", re.IGNORECASE)


def size(text: str) -> int:
    """Read a size as it is printed on a stick: 32GB is 32 · 10⁹ bytes, 32GiB is 32 · 2³⁰."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise click.BadParameter(f"{text!r} is not a size like 32GB, 4.7GB or 700MiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


@click.command("split")
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.option("--volume-size", type=size, required=True, metavar="SIZE", help="Of one volume: 32GB, 4.7GB, 700MiB.")
@click.option("--parity", type=click.IntRange(0, 32), default=0, show_default=True, help="Volumes that may be lost.")
@click.option("--volume", "number", type=click.IntRange(min=1), help="Write only this one, straight into --out.")
@click.option("--out", required=True, type=FOLDER, help="Folder for all volumes; with --volume: one folder or stick.")
@speaking
def split_command(
    voice: Voice, media: tuple[Path, ...], *, volume_size: int, parity: int, number: int | None, out: Path
) -> None:
    """Spread the bundle at MEDIA over volumes. The same command again goes on where it was cut off."""
    from bundles.media.opening import open_media  # noqa: PLC0415  only what this command needs
    from bundles.media.split import lay_out, write_volume  # noqa: PLC0415  the same

    layout = lay_out(open_media(media), volume_bytes=volume_size, parity=parity)
    if number is not None and number > len(layout.headers):
        raise click.UsageError(f"the set has {len(layout.headers)} volumes; there is no volume {number}")
    data = layout.headers[0].data
    voice.say(f"{data} data volumes and {parity} parity volumes.", "set", data=data, parity=parity)
    for header in layout.headers:
        if number in (None, header.number):
            folder = layout.folder(header, out) if number is None else out
            write_volume(layout, header, folder, progress=voice.progress)
            voice.end_progress()
            _tell_volume(voice, header, folder)


@click.command("repair-request")
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the line to this file too.")
@click.option("--node", type=FOLDER, default=NODE, show_default=True, help="What is kept here is not asked for.")
@click.option("--qr", is_flag=True, help="Show it as a QR code as well.")
@speaking
def repair_request_command(voice: Voice, media: tuple[Path, ...], out: Path | None, node: Path, *, qr: bool) -> None:
    """Read all of MEDIA and name the leaves that are damaged, in one line for the publisher."""
    from bundles.digest import sha256_hex  # noqa: PLC0415  only what this command needs
    from bundles.layout import manifest_bytes  # noqa: PLC0415  the same
    from bundles.media.codes import terminal_code  # noqa: PLC0415  the same
    from bundles.media.opening import open_media  # noqa: PLC0415  the same
    from bundles.media.request import MAX_QR_CHARACTERS, leaves_to_request, request_text  # noqa: PLC0415  the same
    from bundles.release import release_from_bytes  # noqa: PLC0415  the same

    opened = open_media(media)
    content = manifest_bytes(opened.bundle)
    release = release_from_bytes(content)
    leaves = leaves_to_request(opened, release, kept=_kept(node), progress=voice.progress)
    voice.end_progress()
    if not leaves:
        voice.say("Nothing is damaged that could not be had from here.", "request", leaves=0)
        return
    line = request_text(leaves, release, sha256_hex(content))
    if out is not None:
        out.write_text(f"{line}\n", encoding="ascii")
    total = sum(leaf.size_bytes for leaf in leaves)
    voice.say(f"{len(leaves)} leaves, {total:,} bytes, are wanted again. Send this line to the publisher:", "advice")
    voice.say(line, "request", leaves=len(leaves), size_bytes=total, text=line)
    if qr and len(line) > MAX_QR_CHARACTERS:
        voice.say("The line is too long for a QR code; send the file.", "advice")
    elif qr:
        voice.say(terminal_code(line), "advice")


@click.command("repair")
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.argument("request", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="New folder or an empty stick.")
@speaking
def repair_command(voice: Voice, media: tuple[Path, ...], request: Path, out: Path) -> None:
    """Write a volume with only the leaves that REQUEST names, from the bundle at MEDIA."""
    from bundles.digest import sha256_hex  # noqa: PLC0415  only what this command needs
    from bundles.layout import manifest_bytes  # noqa: PLC0415  the same
    from bundles.media.opening import open_media  # noqa: PLC0415  the same
    from bundles.media.request import read_request, requested_leaves  # noqa: PLC0415  the same
    from bundles.media.split import write_repair  # noqa: PLC0415  the same
    from bundles.release import release_from_bytes  # noqa: PLC0415  the same

    opened = open_media(media)
    content = manifest_bytes(opened.bundle)
    leaves = requested_leaves(read_request(request), release_from_bytes(content), sha256_hex(content))
    header = write_repair(opened, leaves, out, progress=voice.progress)
    voice.end_progress()
    _tell_volume(voice, header, out)


@click.command("labels")
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.option("--html", "page_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to print.")
@speaking
def labels_command(voice: Voice, media: tuple[Path, ...], page_file: Path | None) -> None:
    """Show the labels of the volumes at MEDIA: what to print and stick on each."""
    from bundles.media.labels import labels, page  # noqa: PLC0415  only what this command needs
    from bundles.media.opening import open_media  # noqa: PLC0415  the same

    made = labels(open_media(media))
    for label in made:
        voice.say(f"{label.text}\n", "label", label=label.header.label, number=label.header.number, code=label.code)
    if page_file is not None:
        page_file.write_text(page(made), encoding="utf-8")


def _tell_volume(voice: Voice, header: VolumeHeader, folder: Path) -> None:
    total = sum(held.size_bytes for held in header.holds)
    voice.say(
        f"  {header.label:<12} {header.kind:<6} {total:>18,} bytes in {folder}",
        "volume",
        label=header.label,
        kind=header.kind,
        number=header.number,
        size_bytes=total,
        folder=str(folder),
    )


def _kept(node: Path) -> Kept | None:
    from bundles.media.kept import Kept  # noqa: PLC0415  only what this command needs
    from bundles.store import Store  # noqa: PLC0415  the same

    return Kept(store=Store(node / "store" / "sha256"), staging=node / "staging") if node.is_dir() else None
