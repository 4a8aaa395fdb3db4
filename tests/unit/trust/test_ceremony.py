"""The next root: who may sign changes only when old and new holders say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from bundles import ceremony, private_keys
from bundles.ceremony import Change, begin, present_signers, renew, replacing, settle, sign, signer_of
from bundles.errors import KeyringExists, LeewardError, MediaMissing, SignatureRefused
from bundles.keys import Keyring, key_name, open_signer
from bundles.private_keys import no_secret
from bundles.roots import follow_roots, read_root
from tests.support.small_bundles import NOW


def names(keyring: Keyring, role: str) -> set[str]:
    root = keyring.root
    return {key_name(root.keys[key_id]) for key_id in root.roles[role].keyids}


@contextmanager
def nothing_changed(keyring: Keyring) -> Iterator[None]:
    before = {path.name: path.read_bytes() for path in keyring.directory.iterdir()}
    yield
    assert {path.name: path.read_bytes() for path in keyring.directory.iterdir()} == before


def signer(keyring: Keyring, name: str) -> private_keys.CryptoSigner:
    return signer_of(keyring, str(keyring.directory / f"{name}.pem"), no_secret)


def test_a_replaced_signer_is_signed_by_old_and_new_thresholds(keyring: Keyring) -> None:
    old = keyring.root

    draft = renew(keyring, "targets-2", now=NOW)

    assert draft.complete
    assert (draft.by_old.threshold, len(draft.by_old.signed)) == (2, 3)
    assert keyring.root.version == 2
    assert follow_roots(*_split(keyring)).version == 2
    assert set(old.roles["targets"].keyids) != set(keyring.root.roles["targets"].keyids)
    assert len(keyring.signers("targets")) == 3


def _split(keyring: Keyring) -> tuple[bytes, tuple[bytes, ...]]:
    first, *following = keyring.roots()
    return first, tuple(following)


def test_all_root_keys_are_rotated_and_the_old_and_the_new_ones_sign(keyring: Keyring) -> None:
    old = set(keyring.root.roles["root"].keyids)

    draft = renew(keyring, "root-1", "root-2", "root-pq", now=NOW)

    assert draft.complete
    assert len(draft.by_old.signed) == 3
    assert len(draft.by_new.signed) == 3
    assert old.isdisjoint(keyring.root.roles["root"].keyids)
    assert len(keyring.signers("root")) == 3
    assert sorted(path.name for path in keyring.directory.glob("root-*.retired-v1.pem")) == [
        "root-1.retired-v1.pem",
        "root-2.retired-v1.pem",
        "root-pq.retired-v1.pem",
    ]
    assert follow_roots(*_split(keyring)).version == 2


def test_a_draft_waits_until_enough_holders_have_signed(keyring: Keyring, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    for path in keyring.directory.glob("root-*.pem"):
        shutil.move(path, safe / path.name)
    begin(keyring, replacing(keyring, ["targets-1"]), now=NOW)

    draft = sign(keyring, [signer_of(keyring, str(safe / "root-1.pem"), no_secret)])

    assert not draft.complete
    assert draft.lacks_post_quantum
    assert "an ML-DSA signature is missing" in str(draft)
    assert keyring.root.version == 1
    assert (keyring.directory / "targets-1.pem").is_file()
    draft = sign(keyring, [signer_of(keyring, str(safe / "root-pq.pem"), no_secret)])
    assert draft.complete
    assert keyring.root.version == 2
    assert not draft.path.exists()


def test_two_classical_signatures_do_not_make_a_root(keyring: Keyring) -> None:
    begin(keyring, replacing(keyring, ["targets-1"]), now=NOW)

    draft = sign(keyring, [signer(keyring, "root-1"), signer(keyring, "root-2")])

    assert draft.by_old.passed
    assert draft.by_new.passed
    assert not draft.complete
    assert keyring.root.version == 1


def test_a_revoked_key_is_gone_and_the_threshold_stays(keyring: Keyring) -> None:
    begin(keyring, Change(removed=frozenset({"targets-3"})), now=NOW)

    sign(keyring, present_signers(keyring))

    assert names(keyring, "targets") == {"targets-1", "targets-2"}
    assert keyring.root.roles["targets"].threshold == 2
    assert not (keyring.directory / "targets-3.pem").exists()
    assert (keyring.directory / "targets-3.retired-v1.pem").is_file()


def test_a_new_signer_joins_with_the_public_key_alone(keyring: Keyring, tmp_path: Path) -> None:
    own = private_keys.generate(private_keys.ECDSA)
    (tmp_path / "own.pub").write_bytes(private_keys.public_pem(own.public_key))
    public = private_keys.read_public(tmp_path / "own.pub")

    begin(keyring, Change(added={("targets", "targets-4"): public}), now=NOW)
    sign(keyring, present_signers(keyring))

    assert names(keyring, "targets") == {"targets-1", "targets-2", "targets-3", "targets-4"}
    assert not list(keyring.directory.glob("targets-4*"))
    assert own.public_key.keyid in keyring.root.keys


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (Change(removed=frozenset({"targets-9"})), "names no key targets-9"),
        (Change(removed=frozenset({"snapshot"})), "role snapshot would have 0 keys"),
        (Change(removed=frozenset({"targets-1", "targets-2"})), "role targets would have 1 keys"),
        (Change(removed=frozenset({"root-pq"})), "no ML-DSA key"),
        (Change(added={("targets", "targets-1"): None}), "cannot be the name"),
        (Change(added={("weights", "weights"): None}), "cannot be the name"),
        (Change(added={("targets", "Upper Case"): None}), "cannot be the name"),
    ],
)
def test_a_root_that_could_never_be_met_is_not_drafted(keyring: Keyring, change: Change, match: str) -> None:
    with nothing_changed(keyring), pytest.raises(SignatureRefused, match=match):
        begin(keyring, change, now=NOW)


def test_an_unknown_name_is_not_replaced(keyring: Keyring) -> None:
    with nothing_changed(keyring), pytest.raises(SignatureRefused, match="names no key nobody"):
        replacing(keyring, ["nobody"])


def test_one_draft_at_a_time(keyring: Keyring) -> None:
    begin(keyring, replacing(keyring, ["targets-1"]), now=NOW)

    with nothing_changed(keyring), pytest.raises(KeyringExists, match="waits for signatures"):
        begin(keyring, replacing(keyring, ["targets-2"]), now=NOW)


def test_a_removed_draft_leaves_nothing_in_the_way(keyring: Keyring) -> None:
    begin(keyring, replacing(keyring, ["targets-1"]), now=NOW).path.unlink()

    assert renew(keyring, "targets-1", now=NOW).complete
    assert len(keyring.signers("targets")) == 3


def test_without_a_draft_there_is_nothing_to_sign(keyring: Keyring) -> None:
    with nothing_changed(keyring), pytest.raises(MediaMissing):
        sign(keyring, keyring.signers("root"))


def test_a_key_that_is_no_root_key_signs_no_root(keyring: Keyring) -> None:
    begin(keyring, replacing(keyring, ["targets-1"]), now=NOW)

    with nothing_changed(keyring), pytest.raises(SignatureRefused, match="targets-2 is no root key"):
        sign(keyring, [keyring.signers("targets")[1]])
    with nothing_changed(keyring), pytest.raises(SignatureRefused, match="is none of root-1"):
        signer(keyring, "targets-2")


def test_a_pem_under_another_keys_name_is_refused(keyring: Keyring) -> None:
    shutil.copy(keyring.directory / "targets-2.pem", keyring.directory / "targets-1.pem")

    with pytest.raises(SignatureRefused, match="not the private half of targets-1"):
        keyring.signers("targets")


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("survived", range(4))
def test_a_kill_between_the_names_is_finished_later(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """Renames: the root that counts, then for each of two keys the old name and the new one."""
    rename, count = Path.rename, 0

    def dying(path: Path, target: Path) -> Path:
        nonlocal count
        if count > survived:
            raise Killed
        count += 1
        return rename(path, target)

    begin(keyring, replacing(keyring, ["targets-1", "root-1"]), now=NOW)
    signers = present_signers(keyring)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(Killed):
            sign(keyring, signers)

    settle(keyring)

    assert keyring.root.version == 2
    assert len(keyring.signers("targets")) == 3
    assert len(keyring.signers("root")) == 3
    assert len(list(keyring.directory.glob("*.retired-v1.pem"))) == 2
    with nothing_changed(keyring):
        settle(keyring)


@pytest.mark.parametrize("survived", range(2))
def test_a_kill_leaves_no_old_key_in_the_place_of_one_that_is_kept_elsewhere(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    elsewhere = private_keys.generate(private_keys.ECDSA).public_key
    begin(keyring, replacing(keyring, ["targets-1"], {"targets-1": elsewhere}), now=NOW)
    signers = present_signers(keyring)
    rename, count = Path.rename, 0

    def dying(path: Path, target: Path) -> Path:
        nonlocal count
        if count == survived:
            raise Killed
        count += 1
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(Killed):
            sign(keyring, signers)

    settle(keyring)

    assert keyring.root.version == 2
    assert (keyring.directory / "targets-1.retired-v1.pem").is_file()
    assert not (keyring.directory / "targets-1.pem").exists()
    assert len(keyring.signers("targets")) == 2
    with nothing_changed(keyring):
        settle(keyring)


def test_a_draft_that_too_few_have_signed_is_settled_by_nothing(keyring: Keyring) -> None:
    begin(keyring, replacing(keyring, ["targets-1"]), now=NOW)

    with nothing_changed(keyring):
        settle(keyring)

    assert keyring.root.version == 1


def test_a_chain_with_a_gap_is_refused(keyring: Keyring) -> None:
    for _ in range(2):
        renew(keyring, "targets-1", now=NOW)
    one, _, three = keyring.roots()

    with pytest.raises(SignatureRefused, match=r"2\.root\.json is missing"):
        follow_roots(one, [three])


def test_a_root_that_only_its_own_keys_signed_is_refused(keyring: Keyring) -> None:
    renew(keyring, "root-1", "root-2", "root-pq", now=NOW)
    one, two = keyring.roots()
    metadata = Metadata[Root].from_bytes(two)
    for key_id in Metadata[Root].from_bytes(one).signed.roles["root"].keyids:
        del metadata.signatures[key_id]

    with pytest.raises(SignatureRefused, match="judged by root version 1"):
        follow_roots(one, [metadata.to_bytes()])


def test_a_root_that_only_the_old_keys_signed_is_refused(keyring: Keyring) -> None:
    renew(keyring, "root-1", "root-2", "root-pq", now=NOW)
    one, two = keyring.roots()
    metadata = Metadata[Root].from_bytes(two)
    for key_id in metadata.signed.roles["root"].keyids:
        del metadata.signatures[key_id]

    with pytest.raises(SignatureRefused, match="judged by root version 2"):
        follow_roots(one, [metadata.to_bytes()])


def test_what_is_no_root_is_said_so() -> None:
    with pytest.raises(LeewardError, match="cannot be read"):
        read_root(b"{}")


def test_opening_a_signer_by_its_file_gives_the_name_in_the_root(keyring: Keyring) -> None:
    root = keyring.root
    key = root.keys[root.roles["targets"].keyids[0]]

    opened = open_signer(str(keyring.directory / "targets-1.pem"), key, no_secret)

    assert key_name(opened.public_key) == "targets-1"
    assert ceremony.opened_as([key], str(keyring.directory / "targets-1.pem"), no_secret).public_key == key
