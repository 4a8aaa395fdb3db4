"""What a person is told when a medium's metadata is refused, also where half of it is missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from tuf.api.exceptions import BadVersionNumberError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from bundles import cli
from bundles.ceremony import renew
from bundles.cli import voice as voices
from bundles.digest import sha256_hex
from bundles.errors import (
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
from bundles.refusal import refusals_of_tuf
from bundles.release import MAX_RELEASE_BYTES
from bundles.signing import Expiry, seal, signed_bytes
from bundles.trust import TrustStore
from tests.support.small_bundles import NOW, write_bundle
from tests.unit.bundles.site import Site

FUTURE = datetime(2050, 1, 1, tzinfo=UTC)


@pytest.fixture
def medium(tmp_path: Path, keyring: Keyring) -> Path:
    return write_bundle(tmp_path / "medium", keyring).folder


def refused(site: Site, medium: Path, error: type[LeewardError], *, now: datetime = NOW) -> str:
    before = (site.slots(), site.policy)
    with pytest.raises(error) as caught:
        site.import_(medium, now=now)
    assert (site.slots(), site.policy) == before
    return caught.value.detail


def sign_targets(medium: Path, keyring: Keyring, targets: dict[str, TargetFile]) -> None:
    """Sign other targets, as a publisher with real keys could."""
    metadata = Targets(version=1, expires=FUTURE, targets=targets)
    content = signed_bytes(metadata, keyring.signers("targets"))
    (medium / METADATA / "1.targets.json").write_bytes(content)
    for name, sealed in seal(content, keyring, expiry=Expiry(), now=NOW).items():
        (medium / METADATA / name).write_bytes(sealed)


def test_a_second_target_is_refused(medium: Path, keyring: Keyring, site: Site) -> None:
    (manifest,) = (medium / TARGETS).iterdir()
    target = TargetFile(manifest.stat().st_size, {"sha256": sha256_hex(manifest.read_bytes())}, "release.json")
    sign_targets(medium, keyring, {"release.json": target, "other.json": target})

    assert "exactly release.json is expected" in refused(site, medium, ReleaseInvalid)


def test_an_absurdly_large_manifest_is_refused_unread(medium: Path, keyring: Keyring, site: Site) -> None:
    target = TargetFile(MAX_RELEASE_BYTES + 1, {"sha256": "00" * 32}, "release.json")
    sign_targets(medium, keyring, {"release.json": target})

    assert "are allowed" in refused(site, medium, ReleaseInvalid)


def test_a_missing_manifest_is_said_so(medium: Path, site: Site) -> None:
    (manifest,) = (medium / TARGETS).iterdir()
    manifest.unlink()

    assert f"targets/{manifest.name} is missing" in refused(site, medium, ContentMismatch)


def test_metadata_that_went_missing_after_it_was_accepted_is_refused(medium: Path, site: Site) -> None:
    site.import_(medium)
    (medium / METADATA / "1.snapshot.json").unlink()

    assert "1.snapshot.json is missing" in refused(site, medium, ContentMismatch)


@pytest.mark.parametrize(
    ("broken", "shown"),
    [
        ("timestamp.json", ()),
        ("1.snapshot.json", ("timestamp",)),
        ("1.targets.json", ("timestamp", "snapshot")),
        ("", ("timestamp", "snapshot", "targets")),
    ],
)
def test_an_expiry_shows_the_dates_that_can_be_read(
    medium: Path, site: Site, broken: str, shown: tuple[str, ...]
) -> None:
    if broken:
        (medium / METADATA / broken).write_bytes(b"no metadata")

    detail = refused(site, medium, ReleaseExpired, now=FUTURE)

    assert [role for role in ("timestamp", "snapshot", "targets") if f"{role} until" in detail] == list(shown)


def test_a_new_root_that_lacks_its_own_signatures_is_refused(medium: Path, keyring: Keyring, site: Site) -> None:
    renew(keyring, "root-1", "root-2", "root-pq", now=NOW)
    metadata = Metadata[Root].from_bytes(keyring.roots()[1])
    for key_id in metadata.signed.roles["root"].keyids:
        del metadata.signatures[key_id]
    (medium / METADATA / "2.root.json").write_bytes(metadata.to_bytes())

    refused(site, medium, SignatureRefused)


def test_an_unsigned_root_is_not_anchored(tmp_path: Path, keyring: Keyring) -> None:
    plain = json.loads(keyring.roots()[0])
    plain["signatures"] = []
    content = json.dumps(plain).encode()

    with pytest.raises(SignatureRefused):
        TrustStore(tmp_path / "trust").anchor(content, sha256_hex(content))

    assert not (tmp_path / "trust").exists()


def of_a_bad_version(*seen: object) -> str:
    with pytest.raises(RollbackRefused) as caught, refusals_of_tuf(*seen, NOW):  # type: ignore[arg-type]  # a bundle and a folder, or none
        raise BadVersionNumberError
    return caught.value.detail


def test_versions_are_shown_as_far_as_they_are_known(tmp_path: Path, medium: Path) -> None:
    assert "versions on the medium: none; accepted here: none" in of_a_bad_version(None, None)
    shown = of_a_bad_version(open_bundle(medium), tmp_path)
    assert "timestamp 1, snapshot 1, targets 1; accepted here: none" in shown


def test_an_interrupted_command_says_so_and_ends_with_130(medium: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bundles.layout.open_bundle", interrupted)

    result = CliRunner().invoke(cli.bundle, ["inspect", str(medium)])

    assert result.exit_code == 130
    assert "Interrupted" in result.output


def test_progress_is_shown_once_a_percent(capsys: pytest.CaptureFixture[str]) -> None:
    speaking = voices.Voice(as_json=True)
    for done in (0, 1, 2, 1000):
        speaking.progress("weights", done, 1000)
    speaking.say("", "only for programs")
    told = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["progress", "progress", "only for programs"]

    silent = voices.Voice(as_json=False)
    silent._terminal = True
    silent.progress("weights", 1, 2)
    silent.end_progress()
    silent.say("", "only for programs")
    out, err = capsys.readouterr()
    assert out == ""
    assert " 50 %  weights" in err


def test_an_unknown_verb_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli.bundle, ["nonsense"])

    assert result.exit_code == 2
    assert "Commands:" in CliRunner().invoke(cli.bundle, ["--help"]).output


def test_the_program_of_its_own_is_the_same_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bundles", "--help"])

    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == 0


def test_anchoring_the_same_root_again_is_no_harm(keyring: Keyring, site: Site) -> None:
    anchor = site.folder / "trust/anchor.root.json"
    before = anchor.stat().st_mtime_ns

    site.trust.anchor(keyring.roots()[0], keyring.fingerprint)

    assert anchor.stat().st_mtime_ns == before


def test_a_damaged_policy_stops_imports_and_is_not_replaced(medium: Path, site: Site) -> None:
    site.import_(medium)
    policy = site.folder / "trust/current/policy.json"
    policy.write_bytes(b'{"epoch":1}')

    with pytest.raises(TrustRootMissing, match=r"policy\.json of the trusted state is damaged"):
        site.import_(medium)

    assert policy.read_bytes() == b'{"epoch":1}'
