"""`leeward bundle approvers` and `approve`: what a site's own people say about a release."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundles.cli.keys import use_module
from bundles.cli.reading import DEFAULT_STATE
from bundles.cli.voice import FILE, FOLDER, SECRETS, Voice, grouped, secrets, speaking
from bundles.errors import TrustRootMissing

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from bundles.approval import Action, Approval
    from bundles.trust import Examined

_STATE = click.option(
    "--state", type=FOLDER, default=DEFAULT_STATE, show_default=True, help="The site's trusted state."
)


@click.command("approvers")
@click.argument("people", nargs=-1, metavar="NAME=KEY.pub...")
@click.option(
    "--threshold", type=click.IntRange(min=0), default=0, help="How many must approve an import.  [default: 0]"
)
@_STATE
@speaking
def approvers_command(voice: Voice, people: tuple[str, ...], threshold: int, state: Path) -> None:
    """Say whose countersignatures this site asks for; without NAME=KEY.pub, show them.

    Two of these people together may override an expiry or a rollback. Write it as root, on the node.
    """
    from bundles.approval import (  # noqa: PLC0415  keeps `inspect` quick
        APPROVERS,
        ApprovalFolder,
        Approvers,
        approver,
        approvers_json,
    )
    from bundles.private_keys import read_public  # noqa: PLC0415  the same
    from bundles.trust_state import write_durably  # noqa: PLC0415  the same

    if people:
        pairs = [person.partition("=") for person in people]
        if not all(name and key for name, _, key in pairs):
            raise click.UsageError("write each person as NAME=KEY.pub")
        try:
            policy = Approvers(
                import_threshold=threshold,
                approvers=tuple(approver(name, read_public(Path(key))) for name, _, key in pairs),
            )
        except (ValueError, OSError) as error:
            raise click.UsageError(str(error)) from error
        write_durably(state / APPROVERS, approvers_json(policy))
    folder = ApprovalFolder(state)
    known = folder.approvers()
    if known is None:
        voice.say("This site asks for nobody's approval.", "approvers", threshold=0, names=())
        return
    names = tuple(one.name for one in known.approvers)
    voice.say(
        f"{known.import_threshold} of {', '.join(names)} must approve an import; two may override.\n"
        f"  list of approvers {grouped(folder.policy_digest or '')}",
        "approvers",
        threshold=known.import_threshold,
        names=names,
        sha256=folder.policy_digest,
    )


@click.command("approve")
@click.argument("medium", type=FOLDER)
@click.option("--key", "reference", required=True, metavar="KEY", help="A PEM file, or hsm:ID?label=TOKEN.")
@click.option(
    "--override", "override", type=click.Choice(["expiry", "rollback"]), multiple=True, help="Let it in even so."
)
@click.option("--reason", default="", help="Why; an override needs one, and it goes to the audit log.")
@click.option("--out", type=FOLDER, help="Write the approval here instead of to the site's trusted state.")
@click.option("--module", type=FILE, help="The token maker's PKCS #11 module.  [default: PYKCS11LIB]")
@_STATE
@SECRETS
@speaking
def approve_command(
    voice: Voice,
    medium: Path,
    *,
    reference: str,
    override: tuple[str, ...],
    reason: str,
    out: Path | None,
    module: Path | None,
    state: Path,
    secret_descriptor: int | None,
) -> None:
    """Approve the import of the release on MEDIUM, as one of this site's approvers.

    Signatures and rules are checked first. With --override, say instead that it may come in although it has
    expired, or although a newer one was accepted; that needs two people. Nothing overrides a wrong signature
    or a wrong byte.
    """
    from bundles.approval import Action, ApprovalFolder  # noqa: PLC0415  keeps `inspect` quick
    from bundles.ceremony import opened_as  # noqa: PLC0415  the same
    from bundles.layout import open_bundle  # noqa: PLC0415  the same
    from bundles.trust import TrustStore  # noqa: PLC0415  the same

    use_module(module)
    approvers = ApprovalFolder(state).approvers()
    if approvers is None:
        raise TrustRootMissing(
            detail=f"{state} names no approvers", remedy="Name them first, as root: `leeward bundle approvers`."
        )
    actions = frozenset(Action(f"override-{what}") for what in override)
    now = datetime.now(UTC)
    examined = TrustStore(state).examine(open_bundle(medium), now=now, overriding=actions)
    signer = opened_as(approvers.keys().values(), reference, secrets(secret_descriptor))
    approvals = [_approval(examined, action, reason, now) for action in sorted(actions) or [Action.IMPORT]]
    for approval in approvals:
        path = _write(approval, signer, state if out is None else out, in_state=out is None)
        voice.say(
            f"{approval.action} of {approval.slot}, epoch {approval.epoch}, signed: {path}\n"
            f"  release.json {grouped(approval.release_sha256)}",
            "approval",
            action=approval.action,
            slot=approval.slot,
            release_sha256=approval.release_sha256,
            path=str(path),
        )


def _approval(examined: Examined, action: Action, reason: str, now: datetime) -> Approval:
    from bundles.approval import Approval  # noqa: PLC0415  keeps `inspect` quick

    try:
        return Approval(
            action=action,
            release_sha256=examined.release_sha256,
            slot=examined.release.slot,
            epoch=examined.release.epoch,
            accepted_epoch=examined.accepted_epoch,
            reason=reason,
            at=now.replace(microsecond=0),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _write(approval: Approval, signer: Signer, folder: Path, *, in_state: bool) -> Path:
    from bundles.approval import APPROVALS, approval_file, sign_approval  # noqa: PLC0415  keeps `inspect` quick
    from bundles.trust_state import write_durably  # noqa: PLC0415  the same

    place = folder / APPROVALS if in_state else folder
    place.mkdir(parents=True, exist_ok=True)
    path = place / approval_file(approval, signer)
    write_durably(path, sign_approval(approval, signer))
    return path
