"""The import door: the site's scanner is asked first, and a receipt of the import is left behind once."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import Root

from appliance.adapters.host.scanner import SiteScanner
from appliance.domain.operation import OperationKind, OperationRequest, OperationState
from appliance.domain.projection import OperationView
from appliance.services.management import Management
from appliance.services.steps.intake import ImportStep
from bundles.digest import sha256_hex
from bundles.keys import Keyring
from bundles.layout import manifest_bytes, open_bundle
from bundles.media.opening import open_media
from bundles.media.receipts import Act, ReceiptFolder, SignedReceipt
from bundles.media.split import lay_out, write_volume
from tests.unit.operations.node import TwinNode
from tests.unit.operations.test_install import ACTOR, SLOT, STATEMENT


@pytest.fixture
def node(tmp_path: Path) -> TwinNode:
    return TwinNode(tmp_path)


def scanner(folder: Path, body: str) -> SiteScanner:
    script = folder / "scanner.py"
    script.write_text(f"import pathlib, sys, time\nvolume = pathlib.Path(sys.argv[1])\n{body}\n")
    return SiteScanner((sys.executable, str(script)))


def run(management: Management, medium: Path, kind: OperationKind = OperationKind.IMPORT, **more: str) -> OperationView:
    parameters = {"medium": str(medium)} | more
    begun = management.operations.start(OperationRequest(kind=kind, parameters=parameters), ACTOR)
    assert management.operations.join(60)
    return management.operations.view(begun.id)


def scans(management: Management) -> list[tuple[str, str]]:
    return [(entry.object, entry.outcome) for entry in management.audit.entries() if entry.action == "medium.scan"]


def roots(node: TwinNode) -> dict[str, Root]:
    keyring = Keyring.load(node.paths.evidence_keys)
    return {keyring.fingerprint: keyring.root}


def receipts(node: TwinNode) -> tuple[SignedReceipt, ...]:
    return ReceiptFolder(node.paths.receipts / SLOT).read(roots(node), release=sha256_hex(manifest(node)))


def manifest(node: TwinNode) -> bytes:
    return manifest_bytes(open_bundle(node.medium))


def volumes(node: TwinNode) -> list[Path]:
    layout = lay_out(open_media([node.medium]), volume_bytes=20 * 10**6, parity=1)
    folders = [node.root / f"stick-{header.number}" for header in layout.headers]
    for header, folder in zip(layout.headers, folders, strict=True):
        write_volume(layout, header, folder)
    return folders


def test_every_volume_is_scanned_before_anything_is_copied_from_it(node: TwinNode) -> None:
    staging, seen = node.paths.data / "staging", node.root / "seen"
    look = f"print(pathlib.Path({str(staging)!r}).exists(), file=open({str(seen)!r}, 'a'))"
    node.scanner = scanner(node.root, f"print('Infected files: 0'); {look}")
    first, second = volumes(node)

    with node.daemon() as management:
        view = run(management, first, volumes=str(second))

        assert view.error is None
        assert scans(management) == [(str(first), "clean"), (str(second), "clean")]
        order = [entry.action for entry in management.audit.entries()]
        assert order.index("medium.scan") < order.index("release.import")
        entry = next(entry for entry in management.audit.entries() if entry.action == "medium.scan")
        assert entry.details["said"] == "Infected files: 0"
        assert entry.details["operation"] == view.id
    assert seen.read_text().split() == ["False", "False"]


@pytest.mark.parametrize(
    ("body", "code", "outcome"),
    [("print('Eicar FOUND'); sys.exit(1)", "scan-refused", "refused"), ("sys.exit(2)", "scan-failed", "failed")],
)
def test_without_a_clean_verdict_nothing_comes_in(node: TwinNode, body: str, code: str, outcome: str) -> None:
    node.scanner = scanner(node.root, body)

    with node.daemon() as management:
        view = run(management, node.medium)

        assert view.error is not None
        assert view.error.code == code
        assert scans(management) == [(str(node.medium), outcome)]
        assert "release.import" not in [entry.action for entry in management.audit.entries()]
    assert not list(node.paths.store.rglob("*"))
    assert not list(node.paths.slots.iterdir())
    assert not node.paths.receipts.exists()


def test_one_refused_volume_stops_what_was_clean_before_it(node: TwinNode) -> None:
    node.scanner = scanner(node.root, "sys.exit(volume.name == 'stick-2')")
    first, second = volumes(node)

    with node.daemon() as management:
        view = run(management, first, volumes=str(second))

        assert view.error is not None
        assert view.error.code == "scan-refused"
        assert scans(management) == [(str(first), "clean"), (str(second), "refused")]
    assert not list(node.paths.store.rglob("*"))


def test_a_long_scan_stops_when_it_is_asked_to(node: TwinNode) -> None:
    node.scanner = scanner(node.root, f"open({str(node.root / 'begun')!r}, 'w'); time.sleep(600)")

    with node.daemon() as management:
        parameters = {"medium": str(node.medium)}
        begun = management.operations.start(OperationRequest(kind=OperationKind.IMPORT, parameters=parameters), ACTOR)
        while not (node.root / "begun").exists():
            assert not management.operations.join(0.05)
        management.operations.cancel(begun.id, ACTOR)
        assert management.operations.join(10)

        assert management.operations.view(begun.id).state is OperationState.CANCELED
        assert scans(management) == []
    assert not list(node.paths.store.rglob("*"))


def test_an_import_leaves_a_receipt_that_the_sites_keys_vouch_for(node: TwinNode) -> None:
    node.scanner = scanner(node.root, "")

    with node.daemon() as management:
        view = run(management, node.medium)

        (entry,) = [entry for entry in management.audit.entries() if entry.action == "release.import"]
        assert entry.details["receipts"] == str(node.paths.receipts / SLOT)
    (one,) = receipts(node)
    assert (one.receipt.act, one.receipt.by, one.receipt.place) == (Act.IMPORT, "j.doe", "llm01")
    assert one.receipt.said.startswith(f"operation {view.id}; 1 scanned and clean, says {sys.executable}")
    assert one.receipt.previous is None


def test_a_receipt_does_not_claim_a_scan_that_nobody_configured(node: TwinNode) -> None:
    with node.daemon() as management:
        view = run(management, node.medium)

        assert any("not scanned" in line for line in view.log)
        assert scans(management) == []
    (one,) = receipts(node)
    assert one.receipt.said == f"operation {view.id}; not scanned, no scanner is configured"


def test_a_receipt_that_came_with_the_medium_is_continued(node: TwinNode) -> None:
    chain = ReceiptFolder(node.paths.receipts / SLOT)
    chain.add(
        node.keyring,
        Act.BURN,
        release=sha256_hex(manifest(node)),
        by="Ada",
        place="",
        at=node.probe.facts().observed_at,
    )
    burned = (chain.path / "001-burn.receipt.json").read_bytes()

    with node.daemon() as management:
        assert run(management, node.medium).error is None

    found = chain.read(roots(node) | {node.keyring.fingerprint: node.keyring.root})
    assert [one.receipt.act for one in found] == [Act.BURN, Act.IMPORT]
    assert found[1].receipt.previous == sha256_hex(burned)


def burned(node: TwinNode, medium: Path, *, by: str, keyring: Keyring | None = None) -> list[bytes]:
    """Put a receipt onto the medium, and return all of its receipts."""
    chain = ReceiptFolder(medium / "receipts")
    release, at = sha256_hex(manifest(node)), node.probe.facts().observed_at
    chain.add(keyring or node.keyring, Act.BURN, release=release, by=by, place="gate 3", at=at)
    return [chain.content(name) for name in chain.names()]


def test_receipts_on_the_medium_are_checked_told_and_continued(node: TwinNode) -> None:
    (came,) = burned(node, node.medium, by="Ada")

    with node.daemon() as management:
        first, second = run(management, node.medium), run(management, node.medium)

    assert (first.error, second.error) == (None, None)
    assert any(
        line.startswith("receipt: burn ") and "by Ada, gate 3, signed by timestamp" in line for line in first.log
    )
    chain = ReceiptFolder(node.paths.receipts / SLOT)
    assert chain.content("001-burn.receipt.json") == came
    found = chain.read(roots(node) | {node.keyring.fingerprint: node.keyring.root})
    assert [one.receipt.act for one in found] == [Act.BURN, Act.IMPORT, Act.IMPORT]
    assert [path.name for path in node.paths.receipts.iterdir()] == [SLOT]


def test_a_second_medium_that_came_another_way_has_a_chain_of_its_own(node: TwinNode) -> None:
    other = node.root / "other"
    shutil.copytree(node.medium, other)
    burned(node, node.medium, by="Ada")
    burned(node, other, by="Ben")

    with node.daemon() as management:
        assert run(management, node.medium).error is None
        assert run(management, other).error is None
        assert run(management, other).error is None

    told = {path.name: list(ReceiptFolder(path).names()) for path in sorted(node.paths.receipts.iterdir())}
    assert told == {
        SLOT: ["001-burn.receipt.json", "002-import.receipt.json"],
        f"{SLOT}.journey-2": ["001-burn.receipt.json", "002-import.receipt.json", "003-import.receipt.json"],
    }


def spoil_by_a_stranger(node: TwinNode) -> Path:
    burned(node, node.medium, by="Eve", keyring=Keyring.create_site(node.root / "stranger"))
    return node.medium


def spoil_by_a_link(node: TwinNode) -> Path:
    (node.medium / "receipts").symlink_to(node.root)
    return node.medium


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (spoil_by_a_stranger, "receipt-invalid"),
        (spoil_by_a_link, "media-missing"),
    ],
)
def test_receipts_on_a_medium_that_do_not_hold_stop_the_import_before_anything_is_copied(
    node: TwinNode, spoil: Callable[[TwinNode], Path], code: str
) -> None:
    medium = spoil(node)

    with node.daemon() as management:
        view = run(management, medium)

        assert view.error is not None
        assert view.error.code == code
        assert "receipts" in view.error.detail
        assert "release.import" not in [entry.action for entry in management.audit.entries()]
    assert not list(node.paths.store.rglob("*"))
    assert not node.paths.receipts.exists()


def test_volumes_with_receipts_that_contradict_each_other_are_refused(node: TwinNode) -> None:
    first, second = volumes(node)
    burned(node, first, by="Ada")
    burned(node, second, by="Ben")

    with node.daemon() as management:
        view = run(management, first, volumes=str(second))

        assert view.error is not None
        assert view.error.code == "receipt-invalid"
        assert "contradict each other" in view.error.detail
        assert "take the folder `receipts` off the medium" in view.error.remedy
    assert not node.paths.receipts.exists()


def test_receipts_that_make_no_chain_stop_the_import_before_anything_is_copied(node: TwinNode) -> None:
    (node.paths.receipts / SLOT).mkdir(parents=True)
    (node.paths.receipts / SLOT / "002-burn.receipt.json").write_bytes(b"{}")

    with node.daemon() as management:
        view = run(management, node.medium)

        assert view.error is not None
        assert view.error.code == "receipt-invalid"
    assert not list(node.paths.store.rglob("*"))


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_kill_after_the_receipt_does_not_make_a_second_one(node: TwinNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, node.daemon() as management:
        patch.setattr(ImportStep, "_record", dies)
        parameters = {"medium": str(node.medium)}
        killed = management.operations.start(OperationRequest(kind=OperationKind.IMPORT, parameters=parameters), ACTOR)
        management.operations.join(30)
    before = receipts(node)

    with node.daemon() as management:
        management.operations.resume()
        assert management.operations.join(30)

        assert management.operations.view(killed.id).state is OperationState.SUCCEEDED
    assert receipts(node) == before
    assert len(before) == 1


def test_evidence_holds_the_receipts_that_are_there(node: TwinNode, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with node.daemon() as management:
        assert run(management, node.medium, OperationKind.INSTALL, attestation=STATEMENT).error is None
        run(management, node.medium)
        exporting = OperationRequest(kind=OperationKind.EXPORT_EVIDENCE, parameters={"destination": str(out)})
        management.operations.start(exporting, ACTOR)
        assert management.operations.join(60)

    (evidence,) = out.iterdir()
    files = [entry["path"] for entry in json.loads(manifest_bytes(open_bundle(evidence)))["files"]]
    assert [path for path in files if path.startswith("receipts/")] == [
        f"receipts/{SLOT}/001-import.receipt.json",
        f"receipts/{SLOT}/002-import.receipt.json",
    ]
    assert len(receipts(node)) == 2
