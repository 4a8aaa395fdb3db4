"""Labels to print and stick on volumes: as text, and as one HTML page with a QR code each.

A label names the set, the volume and the release, and gives the root's fingerprint in words that can be
read aloud: proquints (Wilkerson 2009, arXiv:0901.4016), five letters for each 16 bits.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, MediaMissing
from bundles.layout import METADATA, manifest_bytes
from bundles.media.codes import svg_code
from bundles.media.header import VolumeHeader, VolumeKind
from bundles.media.opening import Media
from bundles.refusal import MAX_ROOT_BYTES
from bundles.release import release_from_bytes

CODE_NAME = "LEEWARD-VOLUME/1"
_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"
_WORDS_A_LINE = 8
_GROUP = 8
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Leeward labels</title><style>
body {{ font: 11pt sans-serif; margin: 1cm }}
section {{ border: 1px solid; padding: 4mm; margin: 0 0 5mm; display: flex; gap: 6mm; break-inside: avoid }}
pre {{ font: 9pt monospace; margin: 0; white-space: pre-wrap }}
</style></head><body>
{labels}
</body></html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What goes onto one volume."""

    header: VolumeHeader
    title: str
    root_fingerprint: str

    @property
    def code(self) -> str:
        """What the QR code says: set, number, data and parity volumes, and the root's fingerprint; no secret."""
        one = self.header
        counts = f"{one.number} {one.data}+{one.parity}"
        return f"{CODE_NAME} {one.release.upper()} {counts} {self.root_fingerprint.upper()}"

    @property
    def text(self) -> str:
        """The label in lines."""
        one = self.header
        what = {
            VolumeKind.DATA: f"volume {one.number} of {one.data + one.parity}: data",
            VolumeKind.PARITY: f"volume {one.number} of {one.data + one.parity}: parity",
            VolumeKind.REPAIR: "repair volume",
        }[one.kind]
        words = proquints(self.root_fingerprint)
        lines = [words[at : at + _WORDS_A_LINE] for at in range(0, len(words), _WORDS_A_LINE)]
        return "\n".join(
            [
                f"{one.label}    {what}",
                self.title,
                f"release  {_grouped(one.release)}",
                f"root     {_grouped(self.root_fingerprint)}",
                *(f"{'read as' if not number else '':<8} {' '.join(line)}" for number, line in enumerate(lines)),
            ]
        )


def labels(media: Media) -> tuple[Label, ...]:
    """Return the label of each volume. Raises MediaMissing for a medium that is none of a set, ContentMismatch."""
    release = release_from_bytes(manifest_bytes(media.bundle))
    try:
        root = media.bundle.read(METADATA, "1.root.json", limit=MAX_ROOT_BYTES)
    except FileNotFoundError as error:
        raise ContentMismatch(
            detail="metadata/1.root.json is missing", remedy="Print labels from the set as it was written."
        ) from error
    title = f"{release.name} {release.version}, epoch {release.epoch}, made {release.created_at:%Y-%m-%d}"
    made = tuple(
        Label(header=volume.header, title=title, root_fingerprint=sha256_hex(root))
        for volume in media.volumes
        if volume.header
    )
    if len(made) != len(media.volumes):
        raise MediaMissing(
            detail="a medium here is a plain bundle or has a damaged header",
            remedy="Name the volumes that `leeward bundle split` wrote.",
        )
    return tuple(sorted(made, key=lambda label: label.header.number))


def page(made: Sequence[Label]) -> str:
    """Return one HTML page; it loads nothing."""
    sections = (f"<section>{svg_code(label.code)}<pre>{html.escape(label.text)}</pre></section>" for label in made)
    return _PAGE.format(labels="\n".join(sections))


def proquints(digest: str) -> tuple[str, ...]:
    """Return the words of a digest in hex: four hex digits each."""
    return tuple(_proquint(int(digest[at : at + 4], 16)) for at in range(0, len(digest), 4))


def _proquint(value: int) -> str:
    shares = (value >> 12 & 15, value >> 10 & 3, value >> 6 & 15, value >> 4 & 3, value & 15)
    letters = (_CONSONANTS, _VOWELS, _CONSONANTS, _VOWELS, _CONSONANTS)
    return "".join(alphabet[share] for alphabet, share in zip(letters, shares, strict=True))


def _grouped(digest: str) -> str:
    return " ".join(digest[at : at + _GROUP] for at in range(0, len(digest), _GROUP))
