"""`leeward bundle sign` and `seal`: release signers, one after another."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundles.cli.keys import use_module
from bundles.cli.voice import FILE, FOLDER, SECRETS, Voice, grouped, secrets, speaking

if TYPE_CHECKING:
    from bundles.countersigning import Pending
    from bundles.refusal import RoleEvidence


@click.command("sign")
@click.argument("medium", type=FOLDER)
@click.option("--key", "reference", required=True, metavar="KEY", help="A PEM file, or hsm:ID?label=TOKEN.")
@click.option("--against", type=FILE, help="A list by `sha256sum` that you got another way; every line must fit.")
@click.option("--module", type=FILE, help="The token maker's PKCS #11 module.  [default: PYKCS11LIB]")
@SECRETS
@speaking
def sign_command(
    voice: Voice,
    medium: Path,
    *,
    reference: str,
    against: Path | None,
    module: Path | None,
    secret_descriptor: int | None,
) -> None:
    """Read every byte on MEDIUM, then sign its release. It counts when enough have signed."""
    from bundles.ceremony import opened_as  # noqa: PLC0415  keeps `inspect` quick
    from bundles.countersigning import add_signature, open_pending, read_sums  # noqa: PLC0415  the same

    use_module(module)
    pending = open_pending(medium)
    _tell_release(voice, pending)
    upstream = read_sums(against.read_text(encoding="utf-8", errors="replace")) if against else {}
    signer = opened_as(pending.signer_keys.values(), reference, secrets(secret_descriptor))
    signed = add_signature(pending, signer, now=datetime.now(UTC), upstream=upstream, progress=voice.progress)
    voice.end_progress()
    voice.say(
        f"All {len(pending.release.files)} files, {pending.release.size_bytes:,} bytes, are as release.json says.",
        "read",
        files=len(pending.release.files),
        size_bytes=pending.release.size_bytes,
        compared=len(upstream),
    )
    _tell_evidence(voice, signed.evidence)


@click.command("seal")
@click.argument("medium", type=FOLDER)
@click.option("--keys", "keys_folder", required=True, type=FOLDER, help="Keyring with the snapshot and timestamp keys.")
@click.option("--signatures", type=FILE, multiple=True, help="N.targets.json of another copy that was signed.")
@SECRETS
@speaking
def seal_command(
    voice: Voice, medium: Path, keys_folder: Path, signatures: tuple[Path, ...], secret_descriptor: int | None
) -> None:
    """Close the bundle on MEDIUM, once enough release signers have signed it."""
    from bundles.countersigning import collect, open_pending, seal_pending  # noqa: PLC0415  keeps `inspect` quick
    from bundles.keys import Keyring  # noqa: PLC0415  the same

    pending = open_pending(medium)
    _tell_release(voice, pending)
    if signatures:
        pending = collect(pending, [path.read_bytes() for path in signatures])
    keyring = Keyring.load(keys_folder, secret=secrets(secret_descriptor))
    _tell_evidence(voice, seal_pending(pending, keyring, now=datetime.now(UTC)))
    voice.say(f"Sealed: {medium} is a bundle now.", "sealed", folder=str(medium))


def _tell_release(voice: Voice, pending: Pending) -> None:
    release = pending.release
    voice.say(
        f"{release.name} {release.version}, epoch {release.epoch}, {len(release.files)} files, "
        f"valid until {pending.evidence.expires:%Y-%m-%d}\n"
        f"  release.json {grouped(pending.release_digest)}\n  first root   {grouped(pending.root_fingerprint)}",
        "pending",
        name=release.name,
        version=release.version,
        epoch=release.epoch,
        expires=pending.evidence.expires.isoformat(),
        release_sha256=pending.release_digest,
        root_sha256=pending.root_fingerprint,
    )


def _tell_evidence(voice: Voice, evidence: RoleEvidence) -> None:
    voice.say(
        f"  {evidence}",
        "signatures",
        threshold=evidence.threshold,
        signed=evidence.signed,
        not_signed=evidence.not_signed,
        complete=evidence.passed,
    )
