"""What a site's own people say about a release, each with a signature: yes, or even so.

    trust/approvers.json                                who may approve, and how many must
    trust/approvals/<release>.<action>.<key>.json       DSSE envelopes, one a person and act

- *import*: where `approvers.json` asks for it, so many approvers must have countersigned the SHA-256
  of `release.json` before it is imported (the second director of Uptane, by hand).
- *override-expiry*, *override-rollback*: two different approvers may let one named release in although
  its signatures have expired, or although a newer one was accepted. Both give a reason; both names
  and reasons go to the audit log. It holds as long as nothing newer is accepted.

There is no override of a signature, a digest or a rule of the format. Who has root on the node can
write `approvers.json`; its digest stands in the audit entry of every import, so that it shows.

Specification of the envelope: DSSE 1.0. Why so: `docs/adr/0008-an-override-needs-two-signatures.md`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature, Signer, SSlibKey

from bundles import codec
from bundles.digest import is_sha256_hex, sha256_hex
from bundles.errors import ApprovalMissing, ReleaseInvalid, TrustRootMissing
from bundles.keys import KEY_NAME, named
from bundles.model_signature import pre_authentication
from bundles.private_keys import ECDSA, public_pem

APPROVERS = "approvers.json"
APPROVALS = "approvals"
PAYLOAD_TYPE = "application/vnd.leeward.approval+json"
MAX_APPROVAL_BYTES = 64_000
MAX_APPROVALS = 10_000
OVERRIDE_THRESHOLD = 2
"""An override is never one person's."""
_SHORTEST_REASON = 10


class Action(StrEnum):
    """What an approval allows."""

    IMPORT = "import"
    OVERRIDE_EXPIRY = "override-expiry"
    OVERRIDE_ROLLBACK = "override-rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """A person of the site: a name and the P-384 public key (PEM)."""

    name: str
    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvers:
    """Who may approve at this site. `import_threshold` 0: an import needs no approval."""

    import_threshold: int
    approvers: tuple[Approver, ...]

    def __post_init__(self) -> None:
        names = [one.name for one in self.approvers]
        keys = {key.keyid for key in self.keys().values()}
        if not all(map(KEY_NAME.fullmatch, names)):
            raise ValueError("an approver's name must be in a-z, 0-9 and -, at most 32 characters")
        if len(set(names)) != len(names) or len(keys) != len(names):
            raise ValueError("two approvers have one name or one key")
        if not 0 <= self.import_threshold <= len(names):
            raise ValueError(f"import_threshold {self.import_threshold} cannot be met by {len(names)} approvers")

    def keys(self) -> Mapping[str, SSlibKey]:
        """Return the public keys by their approvers' names. Raises ValueError for anything but P-384."""
        found = {}
        for one in self.approvers:
            try:
                key = SSlibKey.from_crypto(load_pem_public_key(one.public_key.encode()))
            except UnsupportedAlgorithm as error:
                raise ValueError(f"the key of {one.name} is of an unknown kind") from error
            if key.scheme != ECDSA:
                raise ValueError(f"the key of {one.name} is of kind {key.scheme}, not P-384")
            found[one.name] = named(key, one.name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What one person signed: the act, the release by digest, and why.

    `accepted_epoch` is the newest epoch that the site had accepted then (0: none): an override
    lapses when something newer is accepted.
    """

    action: Action
    release_sha256: str
    slot: str
    epoch: int
    accepted_epoch: int
    reason: str
    at: datetime

    def __post_init__(self) -> None:
        if not is_sha256_hex(self.release_sha256):
            raise ValueError("release_sha256 is no SHA-256")
        if self.action is not Action.IMPORT and len(self.reason.strip()) < _SHORTEST_REASON:
            raise ValueError(f"an override needs a reason of at least {_SHORTEST_REASON} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """An approval whose signature is good, and whose it is."""

    approver: str
    approval: Approval


def sign_approval(approval: Approval, signer: Signer) -> bytes:
    """Return the envelope of `approval`, signed. Raises KeyLocked."""
    payload = codec.canonical_json(codec.to_plain(approval))
    signature = signer.sign(pre_authentication(PAYLOAD_TYPE, payload))
    return codec.canonical_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": signature.keyid, "sig": base64.b64encode(bytes.fromhex(signature.signature)).decode()}
            ],
        }
    )


def approval_file(approval: Approval, signer: Signer) -> str:
    """Return the name of an approval's file."""
    return f"{approval.release_sha256}.{approval.action}.{signer.public_key.keyid[:16]}.json"


def open_approval(envelope: bytes, approvers: Approvers) -> Signed:
    """Read an envelope and verify its one signature.

    Raises ReleaseInvalid where it cannot be read, ApprovalMissing where no approver signed it.
    """
    try:
        payload, key_id, signature = _parsed(envelope)
        approval = codec.from_plain(codec.parse_json(payload), Approval)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ReleaseInvalid(detail=f"it is no approval: {error}", remedy="Let the person approve again.") from error
    for name, key in approvers.keys().items():
        if key.keyid == key_id:
            try:
                key.verify_signature(Signature(key_id, signature.hex()), pre_authentication(PAYLOAD_TYPE, payload))
            except UnverifiedSignatureError as error:
                raise ApprovalMissing(
                    detail=f"the signature of {name} does not fit", remedy="Let the person approve again."
                ) from error
            return Signed(approver=name, approval=approval)
    raise ApprovalMissing(
        detail=f"key {key_id[:16]!a} belongs to none of {', '.join(one.name for one in approvers.approvers)}",
        remedy="Let an approver of this site approve.",
    )


@dataclass(frozen=True, slots=True)
class ApprovalFolder:
    """The approvals in a site's trust folder."""

    trust: Path

    def approvers(self) -> Approvers | None:
        """Return who may approve; None where the site has no such policy. Raises TrustRootMissing if unreadable."""
        content = self._policy_bytes()
        if content is None:
            return None
        try:
            return codec.from_plain(codec.parse_json(content), Approvers)
        except ValueError as error:
            raise TrustRootMissing(
                detail=f"{self.trust / APPROVERS} cannot be read: {error}",
                remedy="Write it again with `leeward bundle approvers`; until then nothing is imported.",
            ) from error

    @property
    def policy_digest(self) -> str | None:
        """The SHA-256 of the list of approvers, for the audit log."""
        content = self._policy_bytes()
        return None if content is None else sha256_hex(content)

    def signed(self, release_sha256: str, approvers: Approvers) -> tuple[Signed, ...]:
        """Return every good approval of a release, one a person and action; what is not good is not counted."""
        found: dict[tuple[Action, str], Signed] = {}
        pattern = re.compile(rf"{release_sha256}\.[a-z-]+\.[0-9a-f]{{16}}\.json")
        folder = self.trust / APPROVALS
        names = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name)) if folder.is_dir() else []
        for path in names[:MAX_APPROVALS]:
            try:
                with path.open("rb") as stream:
                    one = open_approval(stream.read(MAX_APPROVAL_BYTES), approvers)
            except (ReleaseInvalid, ApprovalMissing):
                continue
            if one.approval.release_sha256 == release_sha256:
                found[one.approval.action, one.approver] = one
        return tuple(found.values())

    def _policy_bytes(self) -> bytes | None:
        try:
            return (self.trust / APPROVERS).read_bytes()
        except FileNotFoundError:
            return None


def approvers_json(approvers: Approvers) -> bytes:
    """Return the bytes of `approvers.json`."""
    return codec.canonical_json(codec.to_plain(approvers))


def approver(name: str, key: SSlibKey) -> Approver:
    """Make an approver of a public key."""
    return Approver(name=name, public_key=public_pem(key).decode())


def check_import(approvers: Approvers, signed: Iterable[Signed]) -> tuple[str, ...]:
    """Return who approved the import; raises ApprovalMissing with who has and who has not, where too few have."""
    names = sorted(one.approver for one in signed if one.approval.action is Action.IMPORT)
    if len(names) < approvers.import_threshold:
        missing = sorted({one.name for one in approvers.approvers} - set(names))
        raise ApprovalMissing(
            detail=f"{approvers.import_threshold} approvals required, {len(names)} found"
            + (f"; approved by {', '.join(names)}" if names else "")
            + f"; not approved by {', '.join(missing)}",
            remedy="Let one of them run `leeward bundle approve MEDIUM --key KEY`, then import again.",
        )
    return tuple(names)


def overrides(signed: Iterable[Signed], *, accepted_epoch: int) -> Mapping[Action, tuple[Signed, ...]]:
    """Return the overrides that two approvers signed and that hold at `accepted_epoch` (0: nothing accepted).

    An override holds at the epoch that was accepted when it was signed, and at the release's own,
    so that an import that was killed after it counted can end.
    """
    found: dict[Action, tuple[Signed, ...]] = {}
    for action in (Action.OVERRIDE_EXPIRY, Action.OVERRIDE_ROLLBACK):
        holding = tuple(
            one
            for one in signed
            if one.approval.action is action and accepted_epoch in {one.approval.accepted_epoch, one.approval.epoch}
        )
        if len({one.approver for one in holding}) >= OVERRIDE_THRESHOLD:
            found[action] = holding
    return found


def _parsed(envelope: bytes) -> tuple[bytes, str, bytes]:
    plain = codec.parse_json(envelope)
    if not isinstance(plain, dict) or plain.get("payloadType") != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is not {PAYLOAD_TYPE}")
    (signature,) = plain["signatures"]
    payload = base64.b64decode(plain["payload"], validate=True)
    return payload, str(signature["keyid"]), base64.b64decode(signature["sig"], validate=True)
