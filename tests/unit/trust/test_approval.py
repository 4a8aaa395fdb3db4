"""What the site's own people must say before an import, and what two of them can override."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from bundles import codec, private_keys
from bundles.approval import (
    APPROVALS,
    APPROVERS,
    Action,
    Approval,
    ApprovalFolder,
    Approver,
    Approvers,
    approval_file,
    approver,
    approvers_json,
    open_approval,
    overrides,
    sign_approval,
)
from bundles.errors import (
    ApprovalMissing,
    ContentMismatch,
    LeewardError,
    ReleaseExpired,
    ReleaseInvalid,
    RollbackRefused,
    SignatureRefused,
    TrustRootMissing,
)
from bundles.keys import Keyring
from bundles.layout import METADATA, TARGETS, open_bundle
from bundles.publish import publish
from bundles.signing import Expiry
from tests.support.small_bundles import NOW, blank_release, tree
from tests.unit.bundles.site import Site, blob_of, flip_bit

PEOPLE = ("ada", "ben", "cleo")
REASON = "The courier cannot come before the audit."
LATER = NOW + timedelta(days=60)
SMALL_CURVE = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MDIwEAYHKoZIzj0CAQYFK4EEAAYDHgAER+v2AAkuvH8Pq/0KshFyxArp2qFviopz\n"
    "c+f+xg==\n"
    "-----END PUBLIC KEY-----\n"
)
"""On secp112r1, which no one may use any more."""
SHARD = "weights/target/consolidated.safetensors"


@pytest.fixture(scope="module")
def people() -> dict[str, CryptoSigner]:
    return {name: private_keys.generate(private_keys.ECDSA) for name in PEOPLE}


def policy(people: dict[str, CryptoSigner], threshold: int) -> Approvers:
    return Approvers(
        import_threshold=threshold,
        approvers=tuple(approver(name, signer.public_key) for name, signer in people.items()),
    )


@pytest.fixture
def strict(site: Site, people: dict[str, CryptoSigner]) -> Site:
    """A site where two must approve an import."""
    (site.folder / "trust" / APPROVERS).write_bytes(approvers_json(policy(people, 2)))
    return site


@pytest.fixture
def free(site: Site, people: dict[str, CryptoSigner]) -> Site:
    """A site where nobody must approve an import, but two may override."""
    (site.folder / "trust" / APPROVERS).write_bytes(approvers_json(policy(people, 0)))
    return site


def release_at(tmp_path: Path, keyring: Keyring, epoch: int, *, floor: int = 1) -> Path:
    release = blank_release(epoch=epoch, version=f"26.11.{epoch}", rollback_floor=floor)
    expiry = Expiry(targets_days=30, snapshot_days=30, timestamp_days=30)
    out = tmp_path / f"medium-{epoch}"
    return publish(tree(seed=epoch), release, keyring, out=out, now=NOW, expiry=expiry).folder


def approve(
    site: Site, medium: Path, signer: CryptoSigner, action: Action = Action.IMPORT, *, accepted: int | None = None
) -> Approval:
    (manifest,) = (medium / TARGETS).iterdir()
    release = codec.parse_json(manifest.read_bytes())
    assert isinstance(release, dict)
    known = site.policy.epoch if site.policy else 0
    approval = Approval(
        action=action,
        release_sha256=manifest.name.split(".")[0],
        slot=f"{release['version']}-e{release['epoch']}",
        epoch=release["epoch"],
        accepted_epoch=known if accepted is None else accepted,
        reason=REASON,
        at=NOW,
    )
    folder = site.folder / "trust" / APPROVALS
    folder.mkdir(exist_ok=True)
    (folder / approval_file(approval, signer)).write_bytes(sign_approval(approval, signer))
    return approval


def refused(site: Site, medium: Path, error: type[LeewardError], *, now: object = NOW) -> LeewardError:
    before = (site.slots(), site.policy, site.stored())
    with pytest.raises(error) as caught:
        site.import_(medium, now=now)  # type: ignore[arg-type]  # a datetime
    assert (site.slots(), site.policy, site.stored()) == before
    return caught.value


def test_an_import_waits_for_as_many_approvals_as_the_site_asks_for(
    tmp_path: Path, keyring: Keyring, strict: Site, people: dict[str, CryptoSigner]
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    error = refused(strict, medium, ApprovalMissing)
    assert "2 approvals required, 0 found" in error.detail

    approve(strict, medium, people["cleo"])
    error = refused(strict, medium, ApprovalMissing)
    assert "approved by cleo; not approved by ada, ben" in error.detail

    approve(strict, medium, people["ada"])
    verified = strict.trust.check(open_bundle(medium), now=NOW)
    assert verified.approved_by == ("ada", "cleo")
    assert verified.approvers_digest == ApprovalFolder(strict.folder / "trust").policy_digest
    assert strict.import_(medium).is_dir()


def test_an_approval_is_for_one_release_only(
    tmp_path: Path, keyring: Keyring, strict: Site, people: dict[str, CryptoSigner]
) -> None:
    first, second = release_at(tmp_path, keyring, 1), release_at(tmp_path, keyring, 2)
    for name in ("ada", "ben"):
        approve(strict, first, people[name])

    refused(strict, second, ApprovalMissing)

    for path in (strict.folder / "trust" / APPROVALS).iterdir():  # renamed, it still says the first
        (digest,) = (file.name.split(".")[0] for file in (second / TARGETS).iterdir())
        path.rename(path.with_name(f"{digest}.{path.name.split('.', 1)[1]}"))
    refused(strict, second, ApprovalMissing)


def test_a_stranger_a_damaged_file_and_the_same_person_twice_do_not_count(
    tmp_path: Path, keyring: Keyring, strict: Site, people: dict[str, CryptoSigner]
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    approval = approve(strict, medium, people["ada"])
    approve(strict, medium, private_keys.generate(private_keys.ECDSA))
    folder = strict.folder / "trust" / APPROVALS
    mine = folder / approval_file(approval, people["ada"])
    (folder / f"{approval.release_sha256}.import.{'0' * 16}.json").write_bytes(mine.read_bytes())
    (folder / f"{approval.release_sha256}.import.{'1' * 16}.json").write_bytes(b"garbage")
    (folder / "something.else").write_bytes(b"")

    error = refused(strict, medium, ApprovalMissing)

    assert "1 found; approved by ada" in error.detail


def test_an_approval_replaces_no_signature_of_the_publisher(
    tmp_path: Path, keyring: Keyring, strict: Site, people: dict[str, CryptoSigner]
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    for name in PEOPLE:
        for action in Action:
            approve(strict, medium, people[name], action)
    targets = medium / METADATA / "1.targets.json"
    plain = json.loads(targets.read_bytes())
    plain["signatures"] = plain["signatures"][:1]
    targets.write_text(json.dumps(plain))

    refused(strict, medium, ContentMismatch)  # the snapshot vouches for other bytes


@pytest.mark.parametrize("harm", ["signature", "digest", "stranger"])
def test_no_override_lets_a_wrong_signature_or_a_wrong_byte_in(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner], harm: str
) -> None:
    free.import_(release_at(tmp_path, keyring, 5))
    medium = release_at(tmp_path, keyring, 3)
    if harm == "stranger":
        medium = release_at(tmp_path / "elsewhere", Keyring.create(tmp_path / "strange", now=NOW), 3)
    for name in ("ada", "ben"):
        for action in (Action.OVERRIDE_EXPIRY, Action.OVERRIDE_ROLLBACK):
            approve(free, medium, people[name], action)
    if harm == "signature":
        timestamp = medium / METADATA / "timestamp.json"
        plain = json.loads(timestamp.read_bytes())
        plain["signatures"][0]["sig"] = "00" + plain["signatures"][0]["sig"][2:]
        timestamp.write_text(json.dumps(plain))
    if harm == "digest":
        flip_bit(blob_of(medium, SHARD), 200)

    before = (free.slots(), free.policy)
    with pytest.raises((SignatureRefused, ContentMismatch)):
        free.import_(medium, now=LATER)

    assert (free.slots(), free.policy) == before


def test_two_people_let_an_expired_release_in_and_the_latest_time_does_not_move(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    refused(free, medium, ReleaseExpired, now=LATER)
    approve(free, medium, people["ada"], Action.OVERRIDE_EXPIRY)
    refused(free, medium, ReleaseExpired, now=LATER)
    approve(free, medium, people["ben"], Action.OVERRIDE_EXPIRY)

    verified = free.trust.check(open_bundle(medium), now=LATER)

    assert verified.overridden == {Action.OVERRIDE_EXPIRY}
    assert sorted(one.approver for one in verified.overrides) == ["ada", "ben"]
    assert {one.approval.reason for one in verified.overrides} == {REASON}
    assert verified.reference_time == LATER
    free.import_(medium, now=LATER)
    assert free.policy is not None
    assert free.policy.time == NOW
    free.trust.check(open_bundle(medium), now=LATER).commit()  # killed after it counted: it can still end


def test_an_override_under_a_clock_that_ran_ahead_does_not_poison_the_latest_time(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    free.import_(release_at(tmp_path, keyring, 1))
    medium = release_at(tmp_path, keyring, 2)
    for name in ("ada", "ben"):
        approve(free, medium, people[name], Action.OVERRIDE_EXPIRY)

    free.import_(medium, now=NOW + timedelta(days=9000))

    assert free.import_(release_at(tmp_path, keyring, 3), now=NOW).is_dir()


def test_an_override_that_is_not_needed_is_not_used(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    for name in ("ada", "ben"):
        approve(free, medium, people[name], Action.OVERRIDE_EXPIRY)

    assert free.trust.check(open_bundle(medium), now=NOW).overrides == ()


def test_two_people_let_an_older_release_in_and_nothing_that_is_trusted_goes_back(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    old, middle = release_at(tmp_path, keyring, 3), release_at(tmp_path, keyring, 4)
    free.import_(release_at(tmp_path, keyring, 5, floor=5))
    refused(free, old, RollbackRefused)
    for name in ("cleo", "ben"):
        approve(free, old, people[name], Action.OVERRIDE_ROLLBACK)

    free.import_(old)

    assert free.slots() == ["26.11.3-e3", "26.11.5-e5"]
    assert free.policy is not None
    assert (free.policy.epoch, free.policy.rollback_floor) == (5, 5)
    refused(free, middle, RollbackRefused)
    free.import_(release_at(tmp_path, keyring, 6))
    refused(free, old, RollbackRefused)  # the override lapsed when something newer was accepted


def test_an_older_and_expired_release_needs_both_overrides(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    old = release_at(tmp_path, keyring, 3)
    free.import_(release_at(tmp_path, keyring, 5))
    for name in ("ada", "ben"):
        approve(free, old, people[name], Action.OVERRIDE_ROLLBACK)
    refused(free, old, ReleaseExpired, now=LATER)
    for name in ("ben", "cleo"):
        approve(free, old, people[name], Action.OVERRIDE_EXPIRY)

    verified = free.trust.check(open_bundle(old), now=LATER)

    assert verified.overridden == {Action.OVERRIDE_EXPIRY, Action.OVERRIDE_ROLLBACK}
    assert len(verified.overrides) == 4


def test_another_release_under_an_accepted_epoch_is_no_rollback_that_can_be_overridden(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    free.import_(release_at(tmp_path, keyring, 5))
    twin = publish(tree(seed=77), blank_release(epoch=5), keyring, out=tmp_path / "twin", now=NOW).folder
    for name in ("ada", "ben"):
        approve(free, twin, people[name], Action.OVERRIDE_ROLLBACK)

    refused(free, twin, RollbackRefused)


def test_examining_says_whether_an_override_is_needed_and_commits_nothing(
    tmp_path: Path, keyring: Keyring, free: Site
) -> None:
    medium = open_bundle(release_at(tmp_path, keyring, 1))
    expiry, rollback = frozenset({Action.OVERRIDE_EXPIRY}), frozenset({Action.OVERRIDE_ROLLBACK})

    assert free.trust.examine(medium, now=NOW).release.epoch == 1
    assert free.trust.examine(medium, now=LATER, overriding=expiry).accepted_epoch == 0
    with pytest.raises(ReleaseInvalid, match="nothing needs override-expiry"):
        free.trust.examine(medium, now=NOW, overriding=expiry)
    with pytest.raises(ReleaseExpired):
        free.trust.examine(medium, now=LATER)
    with pytest.raises(ReleaseExpired):
        free.trust.examine(medium, now=LATER, overriding=rollback)
    assert free.policy is None


def test_a_medium_with_two_manifests_is_refused_before_approvals_are_looked_for(
    tmp_path: Path, keyring: Keyring, free: Site
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    (medium / TARGETS / f"{'0' * 64}.release.json").write_bytes(b"{}")

    assert "2 manifests" in refused(free, medium, ContentMismatch).detail


def test_a_damaged_list_of_approvers_stops_imports(tmp_path: Path, keyring: Keyring, free: Site) -> None:
    (free.folder / "trust" / APPROVERS).write_bytes(b'{"import_threshold":0}')

    refused(free, release_at(tmp_path, keyring, 1), TrustRootMissing)


def test_a_list_of_approvers_says_whom_it_can_mean(people: dict[str, CryptoSigner]) -> None:
    good = policy(people, 3)
    ada, ben, _ = good.approvers
    quantum = approver("quin", private_keys.generate(private_keys.MLDSA).public_key)
    for wrong, match in (
        ({"import_threshold": 4}, "cannot be met"),
        ({"approvers": (ada, replace(ben, name="ada"))}, "one name or one key"),
        ({"approvers": (ada, replace(ada, name="ben"))}, "one name or one key"),
        ({"approvers": (replace(ada, name="Ada!"),)}, "must be in a-z"),
        ({"approvers": (quantum,)}, "not P-384"),
        ({"approvers": (Approver(name="x", public_key=SMALL_CURVE),)}, "unknown kind"),
        ({"approvers": (Approver(name="x", public_key="none"),)}, "Unable to load PEM"),
    ):
        with pytest.raises(ValueError, match=match):
            replace(good, **{"import_threshold": 0, **wrong})


def test_an_override_needs_a_reason_and_a_digest(tmp_path: Path, keyring: Keyring, free: Site) -> None:
    approval = approve(free, release_at(tmp_path, keyring, 1), private_keys.generate(private_keys.ECDSA))

    with pytest.raises(ValueError, match="needs a reason"):
        replace(approval, action=Action.OVERRIDE_EXPIRY, reason="because  ")
    with pytest.raises(ValueError, match="no SHA-256"):
        replace(approval, release_sha256="ab")
    assert replace(approval, reason="").action is Action.IMPORT


@pytest.mark.parametrize("harm", ["type", "payload", "no signature", "two signatures", "base64", "list"])
def test_what_is_no_approval_is_said_so(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner], harm: str
) -> None:
    approval = approve(free, release_at(tmp_path, keyring, 1), people["ada"])
    plain = json.loads(sign_approval(approval, people["ada"]))
    if harm == "type":
        plain["payloadType"] = "application/json"
    elif harm == "payload":
        plain["payload"] = base64.b64encode(b"{}").decode()
    elif harm == "no signature":
        plain["signatures"] = []
    elif harm == "two signatures":
        plain["signatures"] *= 2
    elif harm == "base64":
        plain["payload"] = "*"
    else:
        plain = [plain]

    with pytest.raises(ReleaseInvalid, match="it is no approval"):
        open_approval(json.dumps(plain).encode(), policy(people, 0))


def test_a_signature_by_another_key_under_an_approvers_id_is_refused(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    approval = approve(free, release_at(tmp_path, keyring, 1), people["ada"])
    plain = json.loads(sign_approval(approval, people["ben"]))
    plain["signatures"][0]["keyid"] = people["ada"].public_key.keyid

    with pytest.raises(ApprovalMissing, match="signature of ada does not fit"):
        open_approval(json.dumps(plain).encode(), policy(people, 0))


def test_one_person_with_two_files_is_one_person(
    tmp_path: Path, keyring: Keyring, free: Site, people: dict[str, CryptoSigner]
) -> None:
    approval = approve(free, release_at(tmp_path, keyring, 1), people["ada"], Action.OVERRIDE_EXPIRY)
    signed = open_approval(sign_approval(approval, people["ada"]), policy(people, 0))

    assert overrides([signed, signed], accepted_epoch=0) == {}


def test_a_medium_that_changes_between_two_looks_gets_no_approval_of_another_release(
    tmp_path: Path,
    keyring: Keyring,
    strict: Site,
    people: dict[str, CryptoSigner],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stick with a mind of its own shows the approved release first, and then another one."""
    approved, other = release_at(tmp_path, keyring, 1), release_at(tmp_path, keyring, 2)
    for name in ("ada", "ben"):
        approve(strict, approved, people[name])
    (offered,) = (path.name.split(".")[0] for path in (approved / TARGETS).iterdir())
    monkeypatch.setattr("bundles.trust._offered", lambda _: offered)

    error = refused(strict, other, ContentMismatch)

    assert offered in error.detail


@pytest.mark.parametrize("name", ["(((", "[0-9a-f", "a{99999}", "x" * 64])
def test_a_manifest_whose_name_is_no_digest_is_looked_up_nowhere(
    tmp_path: Path, keyring: Keyring, strict: Site, name: str
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    (manifest,) = (medium / TARGETS).iterdir()
    manifest.rename(manifest.with_name(f"{name}.release.json"))
    (strict.folder / "trust" / APPROVALS).mkdir()

    error = refused(strict, medium, ContentMismatch)

    assert "manifest" in error.detail
