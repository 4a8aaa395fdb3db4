"""`leeward bundle`: keys, build, verify, inspect. Also `python -m bundles`, where nothing else is installed.

Every command speaks to people, or with `--json` to programs: one JSON object a line, the verdict
last. Exit status: 0 good, 2 usage, 3 node, 4 trust, 130 interrupted (docs/design.md, Errors).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, ParamSpec

import click

from bundles.errors import ContentMismatch, LeewardError, MediaMissing, TrustRootMissing

if TYPE_CHECKING:
    from bundles.layout import Bundle
    from bundles.release import Release
    from bundles.trust import TrustStore, Verified

DEFAULT_STATE = Path("/var/lib/leeward/trust")
_GROUP = 4

P = ParamSpec("P")
_folder = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False, exists=True)


class Voice:
    """Says each thing once: as a line for people, or as an event for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._terminal = sys.stderr.isatty() and not as_json
        self._percent = -1

    def say(self, line: str, event: str, **values: object) -> None:
        """Say one thing; `line` may be empty where only programs care."""
        if self._as_json:
            click.echo(json.dumps({"event": event, **values}, sort_keys=True))
        elif line:
            click.echo(line)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show progress on a terminal, at most once a percent; programs get an event as often."""
        percent = 100 * done // total if total else 100
        if percent == self._percent:
            return
        self._percent = percent
        if self._as_json:
            self.say("", "progress", what=what, done=done, total=total)
        elif self._terminal:
            click.echo(f"\r\x1b[K{percent:3d} %  {what[:100]}", nl=False, err=True)

    def end_progress(self) -> None:
        """Leave the progress line."""
        if self._terminal and self._percent >= 0:
            click.echo("\r\x1b[K", nl=False, err=True)
        self._percent = -1

    def fail(self, error: LeewardError, *, verdict: str | None = None) -> NoReturn:
        """Say what went wrong and what to do, give the verdict, and end with the error's status."""
        self.end_progress()
        if self._as_json:
            self.say("", "error", code=error.code, title=error.title, detail=error.detail, remedy=error.remedy)
        else:
            click.echo(f"{error.title}.\n  {error.detail}\n  What to do: {error.remedy}", err=True)
        if verdict:
            self.say(verdict, "verdict", verified=False)
        raise SystemExit(error.exit_status)


def speaking(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors of a command into words and an exit status. The command has a `voice` as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
    @wraps(command)
    def spoken(*args: P.args, **kwargs: P.kwargs) -> None:
        voice = Voice(as_json=bool(kwargs.pop("as_json")))
        try:
            command(voice, *args, **kwargs)  # type: ignore[arg-type]  # the voice stands before what click passes
        except LeewardError as error:
            voice.fail(error)
        except KeyboardInterrupt:
            voice.end_progress()
            click.echo("Interrupted. Nothing half-done was left under its final name.", err=True)
            raise SystemExit(130) from None

    return spoken


@click.group("bundle")
def bundle() -> None:
    """Make, verify and inspect the signed bundles that cross the gap."""


@bundle.group("keys")
def keys() -> None:
    """The keys that sign bundles."""


@keys.command("init")
@click.argument("directory", type=_folder)
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


@bundle.command("build")
@click.argument("recipe", type=_file)
@click.option("--out", required=True, type=_folder, help="New folder, or one with a bundle to replace.")
@click.option("--keys", "keys_folder", required=True, type=_folder, help="The publisher's keyring.")
@click.option("--cache", type=_folder, help="Where downloads stay.  [default: ~/.cache/leeward]")
@speaking
def build_command(voice: Voice, recipe: Path, out: Path, keys_folder: Path, cache: Path | None) -> None:
    """Build the bundle of RECIPE. Needs a network where its sources do."""
    from bundles.build import build  # noqa: PLC0415  keeps `inspect` quick
    from bundles.keys import Keyring  # noqa: PLC0415  the same

    report = build(
        recipe,
        out=out,
        keyring=Keyring.load(keys_folder),
        cache=cache or Path.home() / ".cache" / "leeward",
        progress=voice.progress,
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


@bundle.command("inspect")
@click.argument("medium", type=_folder)
@speaking
def inspect_command(voice: Voice, medium: Path) -> None:
    """Show what the medium says about itself. VERIFIES NOTHING."""
    from bundles.layout import open_bundle, peek  # noqa: PLC0415  only what this command needs

    release = peek(open_bundle(medium))
    voice.say("NOT VERIFIED: anyone can have written what follows. Use `verify` to know.", "unverified", verified=False)
    _describe(voice, release)
    voice.say("NOT VERIFIED.", "verdict", verified=False)


@bundle.command("verify")
@click.argument("medium", type=_folder)
@click.option("--root", "root_file", type=_file, help="A root.json that you trust already.")
@click.option("--root-fingerprint", metavar="HEX", help="SHA-256 of the first root, from paper.")
@click.option("--state", type=_folder, help=f"A site's trusted state.  [default: {DEFAULT_STATE}]")
@speaking
def verify_command(
    voice: Voice, medium: Path, root_file: Path | None, root_fingerprint: str | None, state: Path | None
) -> None:
    """Verify signatures, rules and every byte of the bundle on MEDIUM. Changes nothing."""
    if sum(given is not None for given in (root_file, root_fingerprint, state)) > 1:
        raise click.UsageError("give only one of --root, --root-fingerprint and --state")
    try:
        _verify(voice, medium, root_file, root_fingerprint, state)
    except LeewardError as error:
        voice.fail(error, verdict="REFUSED: this medium was not verified.")


@bundle.command("anchor")
@click.option("--state", type=_folder, default=DEFAULT_STATE, show_default=True, help="The site's trusted state.")
@click.option("--root", "root_file", type=_file, required=True, help="The first root of the publisher.")
@click.option("--fingerprint", metavar="HEX", required=True, help="Its SHA-256, from the publisher's paper.")
@speaking
def anchor_command(voice: Voice, state: Path, root_file: Path, fingerprint: str) -> None:
    """Trust the root in a file from now on, if it has the fingerprint on paper. Once is enough; again is no harm."""
    from bundles.refusal import MAX_ROOT_BYTES  # noqa: PLC0415  keeps `inspect` quick
    from bundles.trust import TrustStore  # noqa: PLC0415  the same

    with root_file.open("rb") as stream:
        content = stream.read(MAX_ROOT_BYTES + 1)
    store = TrustStore(state)
    store.anchor(content, fingerprint)
    known = store.root_fingerprint or ""
    voice.say(f"Trusted root: {grouped(known)}", "root", fingerprint=known)


def _verify(
    voice: Voice, medium: Path, root_file: Path | None, root_fingerprint: str | None, state: Path | None
) -> None:
    from bundles.layout import open_bundle  # noqa: PLC0415  keeps `inspect` quick
    from bundles.verify import verify_content  # noqa: PLC0415  the same

    opened = open_bundle(medium)
    with _trust(opened, root_file, root_fingerprint, state) as trust:
        verified = trust.check(opened, now=datetime.now(UTC))
    _tell_evidence(voice, verified)
    _describe(voice, verified.release)
    difference = verify_content(opened, verified.release, progress=voice.progress)
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


def _tell_evidence(voice: Voice, verified: Verified) -> None:
    """Say what was required and what was found."""
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


def main() -> None:
    """Run `leeward bundle` as a program of its own."""
    bundle()


def grouped(fingerprint: str) -> str:
    """Return a fingerprint in groups of four, as people read it aloud."""
    return " ".join(fingerprint[at : at + _GROUP] for at in range(0, len(fingerprint), _GROUP))


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
            f"  engine {release.engine.kind} {release.engine.version} on {release.engine.device}, "
            f"{release.requirements.gpus} GPUs",
            "engine",
            kind=release.engine.kind,
            version=release.engine.version,
            device=release.engine.device,
            gpus=release.requirements.gpus,
        )
    for entry in release.licenses:
        voice.say(
            f"  licence {entry.spdx_id} for {entry.applies_to}",
            "license",
            spdx_id=entry.spdx_id,
            applies_to=entry.applies_to,
        )


@contextmanager
def _trust(opened: Bundle, root_file: Path | None, fingerprint: str | None, state: Path | None) -> Iterator[TrustStore]:
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
