"""Release signers sign separately; the build host alone can release nothing."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from bundles import countersigning
from bundles.ceremony import opened_as, renew
from bundles.countersigning import (
    Pending,
    add_signature,
    check_upstream,
    collect,
    open_pending,
    read_sums,
    seal_pending,
)
from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, LeewardError, MediaMissing, ReleaseExpired, ReleaseInvalid, SignatureRefused
from bundles.keys import Keyring
from bundles.layout import METADATA, TARGETS, open_bundle
from bundles.private_keys import no_secret
from bundles.publish import publish
from bundles.signing import Expiry, propose_release, seal
from tests.support.small_bundles import NOW, blank_release, tree
from tests.unit.bundles.site import Site, flip_bit

SIGNERS = ("targets-1", "targets-2", "targets-3")


@pytest.fixture
def build_host(tmp_path: Path, keyring: Keyring) -> Keyring:
    """The keyring as the build host has it: no root key, no release signer's key."""
    folder = tmp_path / "build-host"
    shutil.copytree(keyring.directory, folder)
    for path in (*folder.glob("root-*.pem"), *folder.glob("targets-*.pem")):
        path.unlink()
    return Keyring.load(folder)


@pytest.fixture
def medium(tmp_path: Path, build_host: Keyring) -> Path:
    return publish(tree(), blank_release(), build_host, out=tmp_path / "medium", now=NOW, unsigned=True).folder


def sign(
    medium: Path, keyring: Keyring, name: str, *, now: datetime = NOW, upstream: dict[str, str] | None = None
) -> Pending:
    pending = open_pending(medium)
    signer = opened_as(pending.signer_keys.values(), str(keyring.directory / f"{name}.pem"), no_secret)
    return add_signature(pending, signer, now=now, upstream=upstream)


def targets_file(medium: Path) -> Path:
    return medium / METADATA / "1.targets.json"


def not_signed(medium: Path) -> bool:
    return not Metadata[Targets].from_bytes(targets_file(medium).read_bytes()).signatures


@pytest.mark.parametrize("two", [SIGNERS[:2], SIGNERS[1:], (SIGNERS[0], SIGNERS[2])])
def test_any_two_of_three_signers_release(
    medium: Path, keyring: Keyring, build_host: Keyring, site: Site, two: tuple[str, str]
) -> None:
    for name in two:
        sign(medium, keyring, name)

    seal_pending(open_pending(medium), build_host, now=NOW)

    slot = site.import_(medium)
    assert slot.is_dir()
    shown = site.trust.check(open_bundle(medium), now=NOW).roles[-1]
    assert (shown.role, shown.threshold, len(shown.signed)) == ("targets", 2, 2)
    assert {name.split()[0] for name in shown.not_signed} == set(SIGNERS) - set(two)


def test_one_of_three_is_refused_at_the_seal_with_who_is_missing(
    medium: Path, keyring: Keyring, build_host: Keyring
) -> None:
    sign(medium, keyring, "targets-2")

    with pytest.raises(SignatureRefused) as caught:
        seal_pending(open_pending(medium), build_host, now=NOW)

    assert "2 signatures required, 1 found" in caught.value.detail
    assert "not signed by targets-1" in caught.value.detail
    assert "targets-3" in caught.value.detail
    assert not (medium / METADATA / "timestamp.json").exists()


@pytest.mark.parametrize("signers", [(), ("targets-3",)])
def test_a_forged_seal_over_too_few_signatures_is_refused_by_the_site(
    medium: Path, keyring: Keyring, build_host: Keyring, site: Site, signers: tuple[str, ...]
) -> None:
    for name in signers:
        sign(medium, keyring, name)
    for name, content in seal(targets_file(medium).read_bytes(), build_host, expiry=Expiry(), now=NOW).items():
        (medium / METADATA / name).write_bytes(content)

    with pytest.raises(SignatureRefused) as caught:
        site.import_(medium)

    assert "not signed by targets-1" in caught.value.detail
    assert site.policy is None
    assert site.slots() == []


def test_a_pending_bundle_is_imported_by_nobody(medium: Path, site: Site) -> None:
    with pytest.raises(MediaMissing):
        site.import_(medium)

    assert site.policy is None


def test_the_same_signer_twice_counts_once(medium: Path, keyring: Keyring, build_host: Keyring) -> None:
    sign(medium, keyring, "targets-1")
    sign(medium, keyring, "targets-1")

    with pytest.raises(SignatureRefused, match="2 signatures required, 1 found"):
        seal_pending(open_pending(medium), build_host, now=NOW)


def test_a_signer_reads_every_byte_before_signing(medium: Path, keyring: Keyring) -> None:
    blob = max((medium / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    flip_bit(blob, 100)

    with pytest.raises(ContentMismatch, match="damaged"):
        sign(medium, keyring, "targets-1")

    assert not_signed(medium)


def test_a_signer_compares_with_a_list_that_came_another_way(medium: Path, keyring: Keyring) -> None:
    files = {path: sha256_hex(content) for path, content in tree().items()}
    sign(medium, keyring, "targets-1", upstream=files)
    before = targets_file(medium).read_bytes()

    with pytest.raises(ContentMismatch, match=r"weights/target/tekken\.json \(differs\)"):
        sign(medium, keyring, "targets-2", upstream={**files, "weights/target/tekken.json": "00" * 32})
    with pytest.raises(ContentMismatch, match=r"weights/more \(missing\)"):
        sign(medium, keyring, "targets-2", upstream={"weights/more": "00" * 32})

    assert targets_file(medium).read_bytes() == before


def test_a_list_is_read_as_sha256sum_prints_it() -> None:
    digest = "ab" * 32

    assert read_sums(f"{digest}  ./a b\n{digest} *c\n\n") == {"a b": digest, "c": digest}
    for line in ("no digest", digest, f"{digest} "):
        with pytest.raises(ContentMismatch, match="no line of a list"):
            read_sums(line)
    check_upstream(blank_release(), {})


@pytest.mark.parametrize("name", ["root-1", "snapshot", "root-pq"])
def test_another_roles_key_signs_no_release(medium: Path, keyring: Keyring, name: str) -> None:
    with pytest.raises(SignatureRefused, match="is none of targets-1, targets-2, targets-3"):
        sign(medium, keyring, name)

    assert not_signed(medium)


def test_a_signer_object_of_another_role_is_refused_too(medium: Path, keyring: Keyring) -> None:
    (snapshot,) = keyring.signers("snapshot")

    with pytest.raises(SignatureRefused, match="snapshot is no release signer"):
        add_signature(open_pending(medium), snapshot, now=NOW)

    assert not_signed(medium)


def test_a_revoked_signer_signs_no_more(keyring: Keyring, build_host: Keyring, tmp_path: Path) -> None:
    renew(keyring, "targets-1", now=NOW)
    shutil.copy(keyring.directory / "2.root.json", build_host.directory)
    newer = publish(tree(), blank_release(), build_host, out=tmp_path / "newer", now=NOW, unsigned=True).folder

    with pytest.raises(SignatureRefused):
        sign(newer, keyring, "targets-1.retired-v1")

    assert not_signed(newer)
    sign(newer, keyring, "targets-1")


def test_signers_may_work_on_copies(
    medium: Path, keyring: Keyring, build_host: Keyring, site: Site, tmp_path: Path
) -> None:
    shutil.copytree(medium, tmp_path / "copy")
    sign(medium, keyring, "targets-1")
    sign(tmp_path / "copy", keyring, "targets-3")

    joined = collect(open_pending(medium), [targets_file(tmp_path / "copy").read_bytes()])

    seal_pending(joined, build_host, now=NOW)
    assert site.import_(medium).is_dir()


def test_a_copy_of_another_release_gives_no_signatures(medium: Path, keyring: Keyring, tmp_path: Path) -> None:
    other = publish(tree(seed=2), blank_release(), keyring, out=tmp_path / "other", now=NOW).folder

    with pytest.raises(ContentMismatch, match="for another release"):
        collect(open_pending(medium), [targets_file(other).read_bytes()])

    assert not_signed(medium)


def test_a_signature_that_does_not_verify_is_not_collected(medium: Path, keyring: Keyring, tmp_path: Path) -> None:
    shutil.copytree(medium, tmp_path / "copy")
    pending = sign(tmp_path / "copy", keyring, "targets-3")
    forged = Metadata[Targets].from_bytes(pending.targets_json)
    for signature in forged.signatures.values():
        signature.signature = "00" + signature.signature[2:]

    collect(open_pending(medium), [forged.to_bytes()])

    assert not_signed(medium)


def test_a_sealed_bundle_takes_no_more_signatures(medium: Path, keyring: Keyring, build_host: Keyring) -> None:
    for name in SIGNERS[:2]:
        sign(medium, keyring, name)
    seal_pending(open_pending(medium), build_host, now=NOW)

    with pytest.raises(MediaMissing, match="sealed already"):
        open_pending(medium)


def test_a_folder_with_nothing_to_sign_is_said_so(medium: Path) -> None:
    targets_file(medium).unlink()

    with pytest.raises(MediaMissing, match="holds 0 releases"):
        open_pending(medium)


def test_a_medium_without_its_first_root_is_not_opened(medium: Path) -> None:
    (medium / METADATA / "1.root.json").unlink()

    with pytest.raises(MediaMissing, match=r"no 1\.root\.json"):
        open_pending(medium)


def replace_targets(medium: Path, keyring: Keyring, release_json: bytes, version: int = 1) -> None:
    files = propose_release(release_json, keyring, version=version, expiry=Expiry(), now=NOW)
    targets_file(medium).unlink()
    (medium / METADATA / f"{version}.targets.json").write_bytes(files[f"{version}.targets.json"])


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        ("the manifest's bytes", ContentMismatch),
        ("a second manifest", ContentMismatch),
        ("another version", ContentMismatch),
        ("another target's name", ContentMismatch),
        ("no metadata", ReleaseInvalid),
        ("something beside", ContentMismatch),
    ],
)
def test_what_does_not_fit_together_is_not_signed(
    medium: Path, keyring: Keyring, harm: str, error: type[LeewardError]
) -> None:
    (manifest,) = (medium / TARGETS).iterdir()
    content = manifest.read_bytes()
    if harm == "the manifest's bytes":
        manifest.write_bytes(content.replace(b"26.11.0", b"26.11.9"))
    elif harm == "a second manifest":
        (medium / TARGETS / f"{'0' * 64}.release.json").write_bytes(content)
    elif harm == "another version":
        replace_targets(medium, keyring, content, version=2)
    elif harm == "another target's name":
        metadata = Metadata[Targets].from_bytes(targets_file(medium).read_bytes())
        metadata.signed.targets["other"] = metadata.signed.targets["release.json"]
        targets_file(medium).write_bytes(metadata.to_bytes())
    elif harm == "something beside":
        (medium / METADATA / "9.snapshot.json").write_bytes(b"{}")
    else:
        targets_file(medium).write_bytes(b"{}")

    with pytest.raises(error):
        sign(medium, keyring, "targets-1")


def test_a_broken_chain_of_roots_is_not_signed_under(medium: Path, keyring: Keyring) -> None:
    for _ in range(2):
        renew(keyring, "targets-1", now=NOW)
    shutil.copy(keyring.directory / "3.root.json", medium / METADATA)

    with pytest.raises(SignatureRefused, match=r"2\.root\.json is missing"):
        open_pending(medium)


def test_nothing_temporary_stays(medium: Path, keyring: Keyring, build_host: Keyring) -> None:
    for name in SIGNERS[:2]:
        sign(medium, keyring, name)
    seal_pending(open_pending(medium), build_host, now=NOW)

    assert not list(medium.rglob(".*"))


def test_the_build_host_cannot_sign_a_release_at_once(tmp_path: Path, build_host: Keyring) -> None:
    with pytest.raises(SignatureRefused, match="holds 0 of them"):
        publish(tree(), blank_release(), build_host, out=tmp_path / "forged", now=NOW)

    assert not (tmp_path / "forged").exists()


def test_the_seal_is_valid_as_long_as_what_was_signed(
    tmp_path: Path, keyring: Keyring, build_host: Keyring, site: Site
) -> None:
    out = tmp_path / "short"
    expiry = Expiry(targets_days=30)
    medium = publish(tree(), blank_release(), build_host, out=out, now=NOW, unsigned=True, expiry=expiry).folder
    for name in SIGNERS[:2]:
        sign(medium, keyring, name)

    with pytest.raises(ReleaseExpired):
        seal_pending(open_pending(medium), build_host, now=NOW + timedelta(days=30))
    assert not (medium / METADATA / "timestamp.json").exists()

    seal_pending(open_pending(medium), build_host, now=NOW + timedelta(days=10))
    roles = site.trust.check(open_bundle(medium), now=NOW + timedelta(days=10)).roles
    assert {role.expires for role in roles if role.role != "root"} == {NOW + timedelta(days=30)}


def test_a_release_from_the_future_is_not_signed(medium: Path, keyring: Keyring) -> None:
    with pytest.raises(ReleaseInvalid, match="was made at 2026-11-24 08:00 UTC"):
        sign(medium, keyring, "targets-1", now=NOW - timedelta(days=2))

    assert not_signed(medium)


def test_signing_and_sealing_write_through_no_link_that_lies_on_the_medium(
    medium: Path, keyring: Keyring, build_host: Keyring, tmp_path: Path
) -> None:
    victim = tmp_path / "of-the-signer"
    victim.write_text("mine")
    for name in ("1.targets.json", "1.snapshot.json", "timestamp.json"):
        (medium / f".{name}.partial").symlink_to(victim)

    for name in SIGNERS[:2]:
        sign(medium, keyring, name)
    seal_pending(open_pending(medium), build_host, now=NOW)

    assert victim.read_text() == "mine"
    assert not any(path.is_symlink() for path in medium.rglob("*"))


def test_a_seal_that_was_killed_half_way_is_made_again(
    medium: Path, keyring: Keyring, build_host: Keyring, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SIGNERS[:2]:
        sign(medium, keyring, name)
    written: list[str] = []
    write = countersigning._write

    def killed(path: Path, content: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, content)

    pending = open_pending(medium)
    with monkeypatch.context() as patch:
        patch.setattr(countersigning, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            seal_pending(pending, build_host, now=NOW)
    assert written == ["1.snapshot.json"]

    seal_pending(open_pending(medium), build_host, now=NOW)

    assert site.import_(medium).is_dir()


@pytest.mark.parametrize("text", ["", "\n\n", f"{'0' * 64}  a\n{'1' * 64}  a\n"])
def test_a_list_that_compares_nothing_or_contradicts_itself_is_no_list(text: str) -> None:
    with pytest.raises(ContentMismatch):
        read_sums(text)


def test_a_release_that_would_never_expire_is_not_signed(keyring: Keyring, medium: Path) -> None:
    targets = Metadata[Targets].from_bytes(targets_file(medium).read_bytes())
    targets.signed.expires = NOW + timedelta(days=3700)
    targets_file(medium).write_bytes(targets.to_bytes())

    with pytest.raises(ReleaseInvalid) as caught:
        sign(medium, keyring, "targets-1")

    assert "2037" in caught.value.detail
    assert not_signed(medium)
