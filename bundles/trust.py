"""Whom this machine trusts, and whether a medium passes.

    trust/
      anchor.root.json      the first trusted root; its SHA-256 was compared with paper
      current -> states/N   what was accepted last: TUF metadata, root history, policy.json
      approvers.json        optional: whose countersignatures this site asks for (`bundles.approval`)
      approvals/

A check works on a copy of the state; `Verified.commit` adopts the new one with a single rename, and
is called only when the whole import has passed. So a refused medium changes nothing.

Expiry is judged against the later of the given time and the last trusted time: a clock that was set
back revives nothing. Rollback is judged by version numbers, never by time. Beyond TUF's rules every
root must carry a signature by an ML-DSA key that the root before it names, so that breaking elliptic
curves is not enough to become the publisher.

Two people of the site may let one release in although it has expired or is older than the accepted
one. What is trusted never goes back: neither the roots, nor the newest epoch, nor the last time.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from bundles import codec
from bundles.approval import Action, ApprovalFolder, Signed, check_import, overrides
from bundles.counter import Counter
from bundles.digest import is_sha256_hex, sha256_hex
from bundles.errors import (
    ContentMismatch,
    LeewardError,
    ReleaseExpired,
    ReleaseInvalid,
    RollbackRefused,
    SignatureRefused,
    TrustRootMissing,
)
from bundles.layout import RELEASE_SUFFIX, TARGETS, Bundle
from bundles.refresh import BEGINNING, ROOT_HISTORY, refresh
from bundles.refusal import RoleEvidence, check_post_quantum, refusals_of_tuf
from bundles.release import Release, release_from_bytes
from bundles.roots import CALL, follow_roots, read_root, same_root
from bundles.trust_state import ANCHOR, RESTORE, State, StateFolder

POLICY = "policy.json"
ACCEPTED = "accepted.json"
"""Slot to the SHA-256 of its `release.json`, of every release that was accepted here."""
_OWN = {POLICY, ACCEPTED}
"""What the state holds beside TUF's files."""
_OVERRIDES: Mapping[type[LeewardError], Action] = {
    ReleaseExpired: Action.OVERRIDE_EXPIRY,
    RollbackRefused: Action.OVERRIDE_ROLLBACK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What was accepted so far: the last trusted time, the newest epoch, the highest rollback floor."""

    time: datetime
    epoch: int
    rollback_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The evidence of a check that passed: what was signed, by whom, and what was required.

    `roles` has one entry each for root, targets, snapshot and timestamp; `known_epoch` is the newest
    epoch accepted before (None on a first import); `reference_time` is what expiry was judged by.
    `approved_by` are the site's own people who approved the import, where the site asks for it;
    `overridden` is what would have refused the bundle, had not `overrides` let it pass.
    Nothing is adopted until `commit`.
    """

    release: Release
    release_json: bytes
    roles: tuple[RoleEvidence, ...]
    root_fingerprint: str
    root_version: int
    reference_time: datetime
    known_epoch: int | None
    approved_by: tuple[str, ...] = ()
    overridden: frozenset[Action] = frozenset()
    overrides: tuple[Signed, ...] = ()
    approvers_digest: str | None = None
    _state: Mapping[str, bytes] = field(repr=False)
    _generation: int = field(repr=False)
    _folder: StateFolder = field(repr=False)

    @property
    def root(self) -> Root:
        """The newest root of the publisher, as of this check."""
        return Metadata[Root].from_bytes(self._state[f"{ROOT_HISTORY}{self.root_version}.root.json"]).signed

    def commit(self) -> None:
        """Adopt the new trusted state, atomically and durably; again does no harm.

        Raises RollbackRefused where something else was adopted since the check, OSError where the
        store cannot be written.
        """
        self._folder.adopt(self._state, grown_from=self._generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A release that passed all but the site's approval. It cannot be committed."""

    release: Release
    release_sha256: str
    accepted_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootUpdate:
    """What following newer roots changed: the version that counted before, and the one that counts now."""

    before: int
    after: int


class TrustStore:
    """The trusted root and state in one folder; `counter` is what counts its changes along."""

    def __init__(self, directory: Path, *, counter: Counter | None = None) -> None:
        self._folder = StateFolder(directory, counter)
        self._approvals = ApprovalFolder(directory)

    @property
    def root_fingerprint(self) -> str | None:
        """The SHA-256 (hex) of the anchored root, as it stands on paper; None where nothing is trusted yet."""
        anchor = self._folder.anchor()
        return None if anchor is None else sha256_hex(anchor)

    @property
    def policy(self) -> Policy | None:
        """What was accepted so far; None before the first import."""
        return _policy(self._folder.state())

    def accepted(self, slot: str) -> str | None:
        """Return the SHA-256 (hex) of the `release.json` that was accepted for a slot; None where none was.

        Raises TrustRootMissing where the state is lost or damaged, OSError.
        """
        return _accepted(self._folder.state()).get(slot)

    def anchor(self, root_json: bytes, expected_fingerprint: str) -> None:
        """Trust `root_json` from now on, because its SHA-256 equals what came on paper.

        `expected_fingerprint` may have spaces, colons or capitals. Doing it again is allowed; another
        root than before is refused. Raises SignatureRefused, OSError.
        """
        found = sha256_hex(root_json)
        if not hmac.compare_digest(found, normalized(expected_fingerprint)):
            raise SignatureRefused(
                detail=f"the root has fingerprint {found}; expected was {expected_fingerprint.strip()[:128]}",
                remedy="Compare both again with the paper. If they differ, do not use this medium.",
            )
        known = self._folder.anchor()
        if known is not None and known != root_json:
            raise SignatureRefused(
                detail=f"this site already trusts the root {sha256_hex(known)}; offered was {found}",
                remedy="If the publisher really began anew, two people move this site's trust folder away first.",
            )
        with refusals_of_tuf(None, None, None):
            root = Metadata[Root].from_bytes(root_json)
            root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
        check_post_quantum([root_json])
        if known is None:
            self._folder.set_anchor(root_json)

    def check(self, bundle: Bundle, *, now: datetime) -> Verified:
        """Check signatures, then release policy, then the site's approval, on a copy of the state.

        `now` is the system clock in UTC. Content comes later. Raises TrustRootMissing,
        SignatureRefused, RollbackRefused, ReleaseExpired, ContentMismatch, ReleaseInvalid,
        PairMismatch, ApprovalMissing, MediaMissing. Changes nothing.
        """
        approvers = self._approvals.approvers()
        if approvers is None:
            return self._judge(bundle, now, {})
        offered = _offered(bundle)
        signed = self._approvals.signed(offered, approvers)
        policy = self.policy
        verified = self._judge(bundle, now, overrides(signed, accepted_epoch=policy.epoch if policy else 0))
        if sha256_hex(verified.release_json) != offered:  # a medium that shows something else at each look
            raise ContentMismatch(
                detail=f"{TARGETS}/ first held the manifest {offered}, then {sha256_hex(verified.release_json)}",
                remedy="Do not import this medium: it changed while it was read. Keep it for whoever looks into that.",
            )
        approved = check_import(approvers, signed)
        return replace(verified, approved_by=approved, approvers_digest=self._approvals.policy_digest)

    def examine(self, bundle: Bundle, *, now: datetime, overriding: frozenset[Action] = frozenset()) -> Examined:
        """Check all but the site's approval, for someone who is to give it; raises what `check` raises.

        `overriding` is what the person is about to override; each must be needed (ReleaseInvalid).
        """
        verified = self._judge(bundle, now, dict.fromkeys(overriding, ()))
        idle = sorted(overriding - verified.overridden)
        if idle:
            raise ReleaseInvalid(
                detail=f"nothing needs {', '.join(idle)}: the bundle passes without it",
                remedy="Approve without the override that is not needed.",
            )
        return Examined(
            release=verified.release,
            release_sha256=sha256_hex(verified.release_json),
            accepted_epoch=verified.known_epoch or 0,
        )

    def bind(self, counted: int) -> None:
        """Let a counter that stands at `counted` and cannot be turned back count along; again is no harm.

        Raises TrustRootMissing, OSError.
        """
        if self._folder.anchor() is None:
            raise _not_anchored(self._folder.path)
        self._folder.bind(counted)

    def follow(self, roots: Iterable[bytes], *, now: datetime) -> RootUpdate:
        """Adopt newer roots alone, such as a revocation that came before the next release.

        Roots that are known already must say the same. Raises TrustRootMissing, SignatureRefused
        for a gap, a fork or too few signatures, ReleaseExpired, ReleaseInvalid, RollbackRefused
        where something else was adopted meanwhile, OSError.
        """
        anchor, state = self._trusted()
        history = _history(anchor, state)
        known = max(history)
        newer = {}
        for content in roots:
            version = read_root(content).signed.version
            if version not in history:
                newer[version] = content
            elif not same_root(content, history[version]):
                raise SignatureRefused(
                    detail=f"the offered root version {version} says something else than the trusted one", remedy=CALL
                )
        following = [newer[version] for version in sorted(newer) if version > known]
        newest = follow_roots(history[known], following)
        reference = _reference(now, _policy(state))
        if newest.is_expired(reference):
            raise ReleaseExpired(
                detail=f"root version {newest.version} was valid until {newest.expires:%Y-%m-%d}; "
                f"judged by {reference:%Y-%m-%d %H:%M} UTC",
                remedy="Check the clock. If it is right, ask the publisher for a newer root.",
            )
        if following:
            merged = history | {known + step: content for step, content in enumerate(following, start=1)}
            files = {f"{ROOT_HISTORY}{version}.root.json": content for version, content in merged.items()}
            self._folder.adopt({**state.files, **files}, grown_from=state.generation)
        return RootUpdate(before=known, after=newest.version)

    def _judge(self, bundle: Bundle, now: datetime, available: Mapping[Action, tuple[Signed, ...]]) -> Verified:
        """Check without overrides first, and with one only where nothing else is in the way."""
        used: dict[Action, tuple[Signed, ...]] = {}
        while True:
            try:
                return self._judged(bundle, now, used)
            except (ReleaseExpired, RollbackRefused) as error:
                action = _OVERRIDES[type(error)]
                if action in used or action not in available:
                    raise
                used[action] = available[action]

    def _judged(self, bundle: Bundle, now: datetime, used: Mapping[Action, tuple[Signed, ...]]) -> Verified:
        anchor, state = self._trusted()
        policy = _policy(state)
        reference = _reference(now, policy)
        older = Action.OVERRIDE_ROLLBACK in used
        known = {name: content for name, content in state.files.items() if not older or name.startswith(ROOT_HISTORY)}
        expiry_time = BEGINNING if Action.OVERRIDE_EXPIRY in used else reference
        refreshed = refresh(bundle, anchor, {name: known[name] for name in known if name not in _OWN}, expiry_time)
        release = release_from_bytes(refreshed.release_json)
        check_policy(release, targets_version=refreshed.targets_version, policy=None if older else policy)
        if older:
            _check_older(release, policy)
        files = {**state.files, **{n: c for n, c in refreshed.state.items() if not older or n.startswith(ROOT_HISTORY)}}
        # who overrides an expiry says that the clock may be wrong: it must not become the latest time then
        seen = reference if Action.OVERRIDE_EXPIRY not in used else policy.time if policy else BEGINNING
        files[POLICY] = codec.canonical_json(codec.to_plain(_advanced(policy, release, seen)))
        files[ACCEPTED] = codec.canonical_json({**_accepted(state), release.slot: sha256_hex(refreshed.release_json)})
        return Verified(
            release=release,
            release_json=refreshed.release_json,
            roles=refreshed.roles,
            root_fingerprint=sha256_hex(anchor),
            root_version=refreshed.root_version,
            reference_time=reference,
            known_epoch=policy.epoch if policy else None,
            overridden=frozenset(used),
            overrides=tuple(one for signed in used.values() for one in signed),
            _state=files,
            _generation=state.generation,
            _folder=self._folder,
        )

    def _trusted(self) -> tuple[bytes, State]:
        anchor = self._folder.anchor()
        if anchor is None:
            raise _not_anchored(self._folder.path)
        return anchor, self._folder.checked_state()


def normalized(fingerprint: str) -> str:
    """Return a fingerprint as people write it (groups, colons, capitals) in plain lower-case hex."""
    return "".join(fingerprint.split()).replace(":", "").lower()


def check_policy(release: Release, *, targets_version: int, policy: Policy | None) -> None:
    """Check the release's own rules against what was accepted before.

    Raises ReleaseInvalid where the epoch is not the signed version, RollbackRefused where the epoch
    lies below the newest accepted one or below its rollback floor.
    """
    if release.epoch != targets_version:
        raise ReleaseInvalid(
            detail=f"release.json says epoch {release.epoch}; its signature is for version {targets_version}",
            remedy="The publisher must sign the release again; do not import this bundle.",
        )
    if policy is None:
        return
    if release.epoch < policy.epoch or release.epoch < policy.rollback_floor:
        raise RollbackRefused(
            detail=f"the bundle has epoch {release.epoch}; this site has accepted epoch {policy.epoch} "
            f"and must not go below epoch {policy.rollback_floor}",
            remedy="Import a bundle with a newer epoch.",
        )


def _not_anchored(directory: Path) -> TrustRootMissing:
    return TrustRootMissing(
        detail=f"{directory} holds no {ANCHOR}",
        remedy="Give the root fingerprint from the publisher's paper with `--root-fingerprint`.",
    )


def _check_older(release: Release, policy: Policy | None) -> None:
    """An override lets an older release in, never another one under an accepted epoch."""
    if policy is None or release.epoch >= policy.epoch:
        raise RollbackRefused(
            detail=f"epoch {release.epoch} is not older than the accepted one; an override does not help",
            remedy="The publisher must give the release a higher epoch.",
        )


def _offered(bundle: Bundle) -> str:
    """Return the digest of the manifest that the medium offers; the check proves it, or refuses the medium.

    Raises ContentMismatch where there is not exactly one, or its name is no digest.
    """
    names = [name for name in bundle.names(TARGETS) if name.endswith(RELEASE_SUFFIX)]
    if len(names) != 1:
        raise ContentMismatch(
            detail=f"{TARGETS}/ holds {len(names)} manifests instead of one",
            remedy="Do not import this medium. Ask the publisher for a good copy and check how it travelled.",
        )
    digest = names[0].removesuffix(RELEASE_SUFFIX)
    if not is_sha256_hex(digest):
        raise ContentMismatch(
            detail=f"the manifest {TARGETS}/{names[0][:80]!a} is not named by its digest",
            remedy="Do not import this medium. Ask the publisher for a good copy and check how it travelled.",
        )
    return digest


def _reference(now: datetime, policy: Policy | None) -> datetime:
    return max(now.astimezone(UTC), policy.time) if policy else now.astimezone(UTC)


def _history(anchor: bytes, state: State) -> dict[int, bytes]:
    """Return the trusted roots by their versions, the anchor first."""
    first = Metadata[Root].from_bytes(anchor).signed.version
    history = {first: anchor}
    while (name := f"{ROOT_HISTORY}{first + len(history)}.root.json") in state.files:
        history[first + len(history)] = state.files[name]
    return history


def _advanced(policy: Policy | None, release: Release, reference: datetime) -> Policy:
    return Policy(
        time=max(reference, release.created_at).replace(microsecond=0),
        epoch=max(release.epoch, policy.epoch if policy else 1),
        rollback_floor=max(release.rollback_floor, policy.rollback_floor if policy else 1),
    )


def _accepted(state: State) -> dict[str, str]:
    try:
        found = codec.parse_json(state.files.get(ACCEPTED, b"{}"))
    except codec.CodecError as error:
        raise TrustRootMissing(detail=f"{ACCEPTED} of the trusted state is damaged: {error}", remedy=RESTORE) from error
    if not isinstance(found, dict) or not all(isinstance(one, str) and is_sha256_hex(one) for one in found.values()):
        raise TrustRootMissing(detail=f"{ACCEPTED} of the trusted state names no digests", remedy=RESTORE)
    return {slot: str(digest) for slot, digest in found.items()}


def _policy(state: State) -> Policy | None:
    together = {POLICY, *(f"{role}.json" for role in (Timestamp.type, Snapshot.type, Targets.type))}
    lost = together - state.files.keys()
    if lost == together:
        return None
    if lost:
        raise TrustRootMissing(detail=f"the trusted state lacks {', '.join(sorted(lost))}", remedy=RESTORE)
    try:
        return codec.from_plain(codec.parse_json(state.files[POLICY]), Policy)
    except codec.CodecError as error:
        raise TrustRootMissing(detail=f"{POLICY} of the trusted state is damaged: {error}", remedy=RESTORE) from error
