"""`leeward bundle sbom`: what is in a release, from the list that travels in it."""

from __future__ import annotations

from pathlib import Path

import click

from bundles.cli.voice import FOLDER, Voice, harmless, speaking
from bundles.errors import MediaMissing

MAX_BYTES = 64 * 1024 * 1024


@click.command("sbom")
@click.argument("medium", type=FOLDER)
@click.option("--notices", is_flag=True, help="The licence texts of third parties instead.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: the screen]")
@speaking
def sbom_command(voice: Voice, medium: Path, *, notices: bool, out: Path | None) -> None:
    """Show the CycloneDX list of the release on MEDIUM. Checks it against the manifest, which only `verify` checks."""
    from bundles.blobs import MediumBlobs  # noqa: PLC0415  only what this command needs
    from bundles.digest import sha256_hex  # noqa: PLC0415  the same
    from bundles.errors import ContentMismatch  # noqa: PLC0415  the same
    from bundles.layout import open_bundle, peek  # noqa: PLC0415  the same
    from bundles.release import LEAF_BYTES  # noqa: PLC0415  the same

    bundle = open_bundle(medium)
    path = "sbom/THIRD-PARTY-NOTICES.txt" if notices else "sbom/bom.cdx.json"
    entry = next((entry for entry in peek(bundle).files if entry.path == path), None)
    if entry is None or entry.size_bytes > MAX_BYTES:
        raise MediaMissing(
            detail=f"the release holds no {path} of at most {MAX_BYTES:,} bytes",
            remedy="Look at a release that was built by Leeward 26.11 or later.",
        )
    content = bytearray(entry.size_bytes)
    with MediumBlobs(bundle).opened(entry) as reader:
        for leaf, begin in enumerate(range(0, entry.size_bytes, LEAF_BYTES)):
            reader.fill(leaf, memoryview(content)[begin : begin + LEAF_BYTES])
    if sha256_hex(content) != entry.sha256:
        raise ContentMismatch(
            detail=f"{path} is not what its manifest says", remedy="Bring another copy of the bundle, and verify it."
        )
    if out:
        out.write_bytes(content)
        voice.say(f"{path}: {entry.size_bytes:,} bytes in {out}", "sbom", path=path, file=str(out))
    else:
        voice.say(harmless(content.decode("utf-8").rstrip("\n")), "sbom", path=path, text=content.decode("utf-8"))
