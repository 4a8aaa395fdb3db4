"""The step `import` of the daemon: overrides are on record before anything is copied; a kill loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.adapters.clock import SystemClock
from appliance.adapters.slots import SlotFolder
from appliance.domain.audit import AuditEntry, link
from appliance.domain.events import Event, LogLine
from appliance.domain.operation import Actor, OperationId, OperationKind
from appliance.services.custody import Custody
from appliance.services.site_keys import SiteKeys
from appliance.services.steps import StepContext
from appliance.services.steps.intake import ImportPlaces, ImportStep
from bundles import private_keys
from bundles.approval import (
    APPROVALS,
    APPROVERS,
    Action,
    Approval,
    Approvers,
    approval_file,
    approver,
    approvers_json,
    sign_approval,
)
from bundles.digest import sha256_hex
from bundles.errors import (
    ApprovalMissing,
    ContentMismatch,
    LeewardError,
    ReleaseInvalid,
    RollbackRefused,
    StoreUnusable,
)
from bundles.keys import Keyring
from bundles.layout import TARGETS
from bundles.release import BundleKind
from bundles.trust import Verified
from tests.support.small_bundles import blank_release, tree, write_bundle
from tests.unit.bundles.site import Site, blob_of, flip_bit

REASON = "The new release breaks the site's own client."


class Audit:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.kept: list[AuditEntry] = []
        self.before_append: Callable[[str], None] = lambda _action: None

    def append(self, *, actor: str, action: str, object_: str, outcome: str, details: dict[str, str]) -> AuditEntry:
        self.before_append(action)
        entry = link(
            seq=len(self.kept) + 1, at=datetime.now(UTC), actor=actor, action=action, object_=object_,
            outcome=outcome, details=dict(details), previous_hash="0" * 64,
        )  # fmt: skip
        self.kept.append(entry)
        return entry

    def told(self, action: str) -> list[AuditEntry]:
        return [entry for entry in self.kept if entry.action == action]


class Node:
    """One site's folders, with the step over them."""

    def __init__(self, folder: Path, keyring: Keyring) -> None:
        self.site = Site.trusting(folder, keyring)
        self.audit = Audit()
        self.events: list[Event] = []
        self.slots = SlotFolder(folder / "slots")
        places = ImportPlaces(trust=folder / "trust", **self.site.places())
        keys = SiteKeys(folder=folder / "evidence-keys", audit=Audit())  # type: ignore[arg-type]  # what is asked of a log
        self.step = ImportStep(
            places=places,
            slots=self.slots,
            audit=self.audit,  # type: ignore[arg-type]  # the same
            clock=SystemClock(),
            custody=Custody(keys=keys, folder=folder / "receipts", node="llm01"),
        )

    def run(self, medium: Path) -> str:
        return self.step.run(
            StepContext(
                operation_id=OperationId("op-1"),
                kind=OperationKind.IMPORT,
                parameters={"medium": str(medium)},
                actor=Actor(name="olga", uid=1000),
                started_at=datetime.now(UTC),
                emit=self.events.append,
                is_canceled=lambda: False,
            )
        )


@pytest.fixture
def node(tmp_path: Path, keyring: Keyring) -> Node:
    return Node(tmp_path / "node", keyring)


def medium_at(tmp_path: Path, keyring: Keyring, epoch: int) -> Path:
    release = blank_release(epoch=epoch, version=f"26.11.{epoch}")
    return write_bundle(tmp_path / f"medium-{epoch}", keyring, release=release, files=tree(seed=epoch)).folder


def name_approvers(node: Node, threshold: int) -> dict[str, private_keys.CryptoSigner]:
    people = {name: private_keys.generate(private_keys.ECDSA) for name in ("ada", "ben")}
    policy = Approvers(
        import_threshold=threshold,
        approvers=tuple(approver(name, signer.public_key) for name, signer in people.items()),
    )
    (node.site.folder / "trust" / APPROVERS).write_bytes(approvers_json(policy))
    return people


def approve(node: Node, medium: Path, signer: private_keys.CryptoSigner, action: Action, *, epoch: int) -> None:
    (manifest,) = (medium / TARGETS).iterdir()
    policy = node.site.policy
    approval = Approval(
        action=action,
        release_sha256=manifest.name.split(".")[0],
        slot=f"26.11.{epoch}-e{epoch}",
        epoch=epoch,
        accepted_epoch=policy.epoch if policy else 0,
        reason=REASON,
        at=datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5),
    )
    folder = node.site.folder / "trust" / APPROVALS
    folder.mkdir(exist_ok=True)
    (folder / approval_file(approval, signer)).write_bytes(sign_approval(approval, signer))


def test_an_override_is_on_record_with_both_names_and_reasons(tmp_path: Path, keyring: Keyring, node: Node) -> None:
    old = medium_at(tmp_path, keyring, 1)
    node.run(medium_at(tmp_path, keyring, 2))
    people = name_approvers(node, 0)
    for signer in people.values():
        approve(node, old, signer, Action.OVERRIDE_ROLLBACK, epoch=1)

    node.run(old)

    told = node.audit.told("release.override-rollback")
    assert sorted(entry.actor for entry in told) == ["ada", "ben"]
    assert {entry.details["reason"] for entry in told} == {REASON}
    assert {entry.object for entry in told} == {"26.11.1-e1"}
    assert {entry.details["accepted_epoch"] for entry in told} == {"2"}
    lines = [event.text for event in node.events if isinstance(event, LogLine)]
    assert sum(REASON in line for line in lines) == 2
    assert node.slots.pending() == "26.11.1-e1"
    assert node.site.policy is not None
    assert node.site.policy.epoch == 2


def test_an_override_is_on_record_even_where_the_content_is_then_refused(
    tmp_path: Path, keyring: Keyring, node: Node
) -> None:
    old = medium_at(tmp_path, keyring, 1)
    node.run(medium_at(tmp_path, keyring, 2))
    for signer in name_approvers(node, 0).values():
        approve(node, old, signer, Action.OVERRIDE_ROLLBACK, epoch=1)
    flip_bit(blob_of(old, "weights/target/consolidated.safetensors"), 100)

    with pytest.raises(ContentMismatch):
        node.run(old)

    assert len(node.audit.told("release.override-rollback")) == 2
    assert [entry.object for entry in node.audit.told("release.import")] == ["26.11.2-e2"]
    assert node.slots.pending() == "26.11.2-e2"


def test_one_person_overrides_nothing(tmp_path: Path, keyring: Keyring, node: Node) -> None:
    old = medium_at(tmp_path, keyring, 1)
    node.run(medium_at(tmp_path, keyring, 2))
    approve(node, old, name_approvers(node, 0)["ada"], Action.OVERRIDE_ROLLBACK, epoch=1)

    with pytest.raises(RollbackRefused):
        node.run(old)

    assert not node.audit.told("release.override-rollback")
    assert node.slots.pending() == "26.11.2-e2"


def test_who_approved_and_by_which_list_stands_in_the_imports_entry(
    tmp_path: Path, keyring: Keyring, node: Node
) -> None:
    medium = medium_at(tmp_path, keyring, 1)
    people = name_approvers(node, 1)
    with pytest.raises(ApprovalMissing):
        node.run(medium)
    assert node.audit.kept == []
    assert node.site.stored() == []

    approve(node, medium, people["ben"], Action.IMPORT, epoch=1)
    node.run(medium)

    (entry,) = node.audit.told("release.import")
    assert entry.actor == "olga"
    assert entry.details["approved_by"] == "ben"
    assert entry.details["approvers_sha256"] == sha256_hex((node.site.folder / "trust" / APPROVERS).read_bytes())


class Killed(BaseException):
    """The process ends here."""


def dies(*_args: object, **_options: object) -> None:
    raise Killed


@pytest.mark.parametrize("instant", ["before the commit", "after the commit", "before the audit entry"])
def test_a_kill_between_the_steps_is_finished_by_the_next_run(
    tmp_path: Path, keyring: Keyring, node: Node, monkeypatch: pytest.MonkeyPatch, instant: str
) -> None:
    node.run(medium_at(tmp_path, keyring, 1))
    medium = medium_at(tmp_path, keyring, 2)
    with monkeypatch.context() as patch:
        if instant == "before the commit":
            patch.setattr(Verified, "commit", dies)
        elif instant == "after the commit":
            patch.setattr(SlotFolder, "await_activation", dies)
        else:
            node.audit.before_append = dies
        with pytest.raises(Killed):
            node.run(medium)

    policy = node.site.policy
    assert policy is not None
    assert policy.epoch == (1 if instant == "before the commit" else 2)
    assert len(node.audit.told("release.import")) == 1
    assert node.slots.pending() == ("26.11.2-e2" if instant == "before the audit entry" else "26.11.1-e1")

    node.audit.before_append = lambda _action: None
    node.run(medium)
    assert node.slots.pending() == "26.11.2-e2"
    assert [entry.object for entry in node.audit.told("release.import")] == ["26.11.1-e1", "26.11.2-e2"]


def test_a_trust_folder_that_cannot_be_written_is_said_so_and_the_release_does_not_wait(
    tmp_path: Path, keyring: Keyring, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Verified, "commit", full)

    with pytest.raises(StoreUnusable) as caught:
        node.run(medium_at(tmp_path, keyring, 1))

    assert isinstance(caught.value, LeewardError)
    assert node.slots.pending() is None
    assert node.audit.kept == []


def test_an_evidence_bundle_is_not_imported(tmp_path: Path, keyring: Keyring, node: Node) -> None:
    evidence = replace(
        blank_release(), kind=BundleKind.EVIDENCE, licenses=(), pair=None, engine=None, requirements=None
    )
    medium = write_bundle(tmp_path / "evidence", keyring, release=evidence, files={"audit/log.jsonl": b"{}\n"}).folder

    with pytest.raises(ReleaseInvalid, match="of kind evidence"):
        node.run(medium)

    assert node.site.policy is None
    assert node.slots.pending() is None
    assert node.audit.kept == []
