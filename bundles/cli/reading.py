"""`leeward bundle inspect`, `verify` and `anchor`: what a reader of bundles needs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundles.cli.voice import FILE, FOLDER, Voice, grouped, one_line, speaking, told
from bundles.errors import ContentMismatch, LeewardError, MediaMissing, TrustRootMissing

if TYPE_CHECKING:
    from bundles.layout import Bundle
    from bundles.release import Release
    from bundles.trust import TrustStore, Verified

DEFAULT_STATE = Path("/var/lib/leeward/trust")
DEFAULT_STORE = Path("/var/lib/leeward/store")
TPM = Path("/dev/tpmrm0")
"""This node's TPM; its counter is for this node's own state, not for another that `--state` names."""


@click.command("inspect")
@click.argument("medium", type=FOLDER)
@speaking
def inspect_command(voice: Voice, medium: Path) -> None:
    """Show what the medium says about itself. VERIFIES NOTHING."""
    from bundles.layout import open_bundle, peek  # noqa: PLC0415  only what this command needs

    release = peek(open_bundle(medium))
    voice.say("NOT VERIFIED: anyone can have written what follows. Use `verify` to know.", "unverified", verified=False)
    _describe(voice, release)
    voice.say("NOT VERIFIED.", "verdict", verified=False)


@click.command("verify")
@click.argument("media", type=FOLDER, nargs=-1, required=True)
@click.option("--root", "root_file", type=FILE, help="A root.json that you trust already.")
@click.option("--root-fingerprint", metavar="HEX", help="SHA-256 of the first root, from paper.")
@click.option("--state", type=FOLDER, help=f"A site's trusted state.  [default: {DEFAULT_STATE}]")
@click.option("--store", type=FOLDER, default=DEFAULT_STORE, show_default=True, help="What a delta builds on.")
@speaking
def verify_command(
    voice: Voice,
    media: tuple[Path, ...],
    *,
    root_file: Path | None,
    root_fingerprint: str | None,
    state: Path | None,
    store: Path,
) -> None:
    """Verify signatures, rules and every byte of the bundle at MEDIA: one folder, or volumes. Changes nothing.

    A delta is verified together with the node's store that it was made for.
    """
    if sum(given is not None for given in (root_file, root_fingerprint, state)) > 1:
        raise click.UsageError("give only one of --root, --root-fingerprint and --state")
    try:
        _verify(voice, media, root_file, root_fingerprint, state, store=store)
    except (LeewardError, OSError) as error:
        what = error if isinstance(error, LeewardError) else told(error)
        voice.fail(what, verdict="REFUSED: this medium was not verified.")


@click.command("anchor")
@click.option("--state", type=FOLDER, default=DEFAULT_STATE, show_default=True, help="The site's trusted state.")
@click.option("--root", "root_file", type=FILE, help="The first root of the publisher.")
@click.option("--fingerprint", metavar="HEX", help="Its SHA-256, from the publisher's paper.")
@click.option("--update", type=FOLDER, help="Follow the newer roots in this folder or medium, such as a revocation.")
@click.option("--tpm", is_flag=True, help="Let the TPM count along, so that no old disk image is trusted again.")
@speaking
def anchor_command(
    voice: Voice, state: Path, *, root_file: Path | None, fingerprint: str | None, update: Path | None, tpm: bool
) -> None:
    """Trust the root in a file from now on, if it has the fingerprint on paper. Once is enough; again is no harm.

    With --update, follow newer roots alone, which the trusted one vouches for: no paper is needed.
    """
    if sum((update is not None, root_file is not None, tpm)) != 1 or (root_file is None) != (fingerprint is None):
        raise click.UsageError("give --root with --fingerprint, or --update, or --tpm")
    from bundles.counter import NodeCounter  # noqa: PLC0415  keeps `inspect` quick
    from bundles.trust import TrustStore  # noqa: PLC0415  the same

    store = TrustStore(state, counter=NodeCounter(TPM) if state == DEFAULT_STATE else None)
    if tpm:
        _bind(voice, store)
    elif update is not None:
        changed = store.follow(_roots_in(update), now=datetime.now(UTC))
        said = f"Root version {changed.after} counts now"
        said += f"; before it was {changed.before}." if changed.after > changed.before else ", as before."
        voice.say(said, "followed", before=changed.before, after=changed.after)
    elif root_file is not None:
        store.anchor(_root_bytes(root_file), fingerprint or "")
    known = store.root_fingerprint or ""
    voice.say(f"Trusted root: {grouped(known)}", "root", fingerprint=known)


def _bind(voice: Voice, store: TrustStore) -> None:
    from bundles.counter import NodeCounter  # noqa: PLC0415  keeps `inspect` quick

    counter = NodeCounter(TPM).tpm()
    if counter is None:
        raise TrustRootMissing(
            detail=f"this node has no TPM: there is no {TPM}",
            remedy="Turn the TPM 2.0 on in the firmware's settings, or go on without it.",
        )
    counter.define()
    store.bind(counter.read())
    voice.say(f"The TPM counts along; it stands at {counter.read()}.", "counter", value=counter.read())


def _roots_in(folder: Path) -> list[bytes]:
    """Return the roots in a folder, or in the `metadata/` of a medium."""
    from bundles.layout import METADATA, read_regular  # noqa: PLC0415  keeps `inspect` quick
    from bundles.refusal import MAX_ROOT_BYTES  # noqa: PLC0415  the same

    place = folder / METADATA if (folder / METADATA).is_dir() else folder
    found = sorted(place.glob("*.root.json"), key=lambda path: (len(path.name), path.name))
    if not found:
        raise MediaMissing(detail=f"{place} holds no N.root.json", remedy="Name the folder that holds the roots.")
    return [read_regular(path, limit=MAX_ROOT_BYTES + 1) for path in found]


def _root_bytes(path: Path) -> bytes:
    from bundles.refusal import MAX_ROOT_BYTES  # noqa: PLC0415  keeps `inspect` quick

    with path.open("rb") as stream:
        return stream.read(MAX_ROOT_BYTES + 1)


def _verify(
    voice: Voice,
    media: tuple[Path, ...],
    root_file: Path | None,
    root_fingerprint: str | None,
    state: Path | None,
    *,
    store: Path,
) -> None:
    from bundles.delta.rebuild import open_delta  # noqa: PLC0415  keeps `inspect` quick
    from bundles.media.opening import open_media  # noqa: PLC0415  the same
    from bundles.verify import verify_content  # noqa: PLC0415  the same

    opened = open_media(media)
    with trust_of(opened.bundle, root_file, root_fingerprint, state) as trust:
        verified = opened.check(trust, now=datetime.now(UTC))
    tell_verified(voice, verified)
    delta = open_delta(opened.bundle, store) if opened.is_plain else None
    content = delta or opened.blobs(verified.release)
    difference = verify_content(content, verified.release, progress=voice.progress)
    voice.end_progress()
    if difference:
        raise ContentMismatch(
            detail=str(difference), remedy="Do not use this medium. Ask the publisher for a good copy."
        )
    voice.say(
        f"VERIFIED: all {len(verified.release.files)} files, {verified.release.size_bytes:,} bytes, are as signed.",
        "verdict",
        verified=True,
        files=len(verified.release.files),
        size_bytes=verified.release.size_bytes,
    )


def tell_verified(voice: Voice, verified: Verified) -> None:
    """Say what was required and what was found, then what the bundle is."""
    _tell_evidence(voice, verified)
    _describe(voice, verified.release)


def _tell_evidence(voice: Voice, verified: Verified) -> None:
    voice.say(f"Trusted root: {grouped(verified.root_fingerprint)}", "root", fingerprint=verified.root_fingerprint)
    for role in verified.roles:
        voice.say(
            f"  {role}; valid until {role.expires:%Y-%m-%d}",
            "role",
            role=role.role,
            version=role.version,
            threshold=role.threshold,
            signed=role.signed,
            not_signed=role.not_signed,
            unknown=role.unknown,
            expires=role.expires.isoformat(),
        )
    known = "none before" if verified.known_epoch is None else f"{verified.known_epoch} before"
    voice.say(
        f"  epoch {verified.release.epoch}; accepted here: {known}; time used for expiry: "
        f"{verified.reference_time:%Y-%m-%d %H:%M} UTC",
        "policy",
        epoch=verified.release.epoch,
        known_epoch=verified.known_epoch,
        reference_time=verified.reference_time.isoformat(),
    )
    if verified.approved_by:
        names = ", ".join(verified.approved_by)
        voice.say(f"  approved here by {names}", "approved", by=verified.approved_by)
    for one in verified.overrides:
        voice.say(
            f"  {one.approval.action.upper()} by {one.approver}: {one_line(one.approval.reason)}",
            "override",
            action=one.approval.action,
            by=one.approver,
            reason=one.approval.reason,
        )


def _describe(voice: Voice, release: Release) -> None:
    voice.say(
        f"{release.kind} {release.name} {release.version}, epoch {release.epoch}, made {release.created_at:%Y-%m-%d}: "
        f"{len(release.files)} files, {release.size_bytes:,} bytes",
        "release",
        kind=release.kind,
        name=release.name,
        version=release.version,
        epoch=release.epoch,
        rollback_floor=release.rollback_floor,
        created_at=release.created_at.isoformat(),
        files=len(release.files),
        size_bytes=release.size_bytes,
    )
    if release.engine and release.requirements:
        voice.say(
            f"  engine {one_line(release.engine.kind)} {one_line(release.engine.version)} on {release.engine.device}, "
            f"{release.requirements.gpus} GPUs",
            "engine",
            kind=release.engine.kind,
            version=release.engine.version,
            device=release.engine.device,
            gpus=release.requirements.gpus,
        )
    for entry in release.licenses:
        voice.say(
            f"  licence {one_line(entry.spdx_id)} for {one_line(entry.applies_to)}",
            "license",
            spdx_id=entry.spdx_id,
            applies_to=entry.applies_to,
        )


@contextmanager
def trust_of(
    opened: Bundle, root_file: Path | None, fingerprint: str | None, state: Path | None
) -> Iterator[TrustStore]:
    """Give the trust store to judge by: a site's own, or one for this run only."""
    from bundles.digest import sha256_hex  # noqa: PLC0415  keeps `inspect` quick
    from bundles.layout import METADATA  # noqa: PLC0415  the same
    from bundles.refusal import MAX_ROOT_BYTES  # noqa: PLC0415  the same
    from bundles.trust import TrustStore  # noqa: PLC0415  the same

    if root_file is None and fingerprint is None:
        store = TrustStore(state or DEFAULT_STATE)
        try:
            known = store.root_fingerprint
        except OSError as error:
            raise TrustRootMissing(
                detail=f"{state or DEFAULT_STATE} cannot be read: {error.strerror}",
                remedy="Give the fingerprint from the publisher's paper with `--root-fingerprint`, or run as root.",
            ) from error
        if known is None and state is None:
            raise TrustRootMissing(
                detail="no root was named, and this machine has no trusted state",
                remedy="Give the fingerprint from the publisher's paper with `--root-fingerprint`.",
            )
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="leeward-verify-") as scratch:
        store = TrustStore(Path(scratch) / "trust")
        if root_file is not None:
            content = root_file.read_bytes()
            store.anchor(content, sha256_hex(content))
        else:
            try:
                content = opened.read(METADATA, "1.root.json", limit=MAX_ROOT_BYTES)
            except FileNotFoundError as error:
                raise MediaMissing(
                    detail="metadata/1.root.json is missing", remedy="Give a root.json that you trust with `--root`."
                ) from error
            store.anchor(content, fingerprint or "")
        yield store
