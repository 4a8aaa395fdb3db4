"""Keys on a token, for real: SoftHSM2 through its PKCS #11 module."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import tokens
from bundles.ceremony import Change, begin, opened_as, present_signers, renew, sign
from bundles.countersigning import add_signature, open_pending, seal_pending
from bundles.errors import KeyLocked, SignatureRefused
from bundles.keys import Keyring
from bundles.publish import publish
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site
from tests.unit.trust.conftest import LABEL, PIN, Token


def pin(_what: str) -> str:
    return PIN


def adopt(keyring: Keyring, place: str, name: str) -> None:
    """Let a token's key be a release signer from the next root on."""
    public = tokens.public_key(place, pin)
    begin(keyring, Change(removed=frozenset({name}), added={("targets", name): public}), now=NOW)
    sign(keyring, present_signers(keyring))


def test_a_release_signer_signs_on_a_token(tmp_path: Path, keyring: Keyring, site: Site, token: Token) -> None:
    place = token.make_key(11)
    adopt(keyring, place, "targets-1")
    medium = publish(tree(), blank_release(), keyring, out=tmp_path / "medium", now=NOW, unsigned=True).folder
    asked: list[str] = []

    for reference in (place, str(keyring.directory / "targets-2.pem")):
        pending = open_pending(medium)
        signer = opened_as(pending.signer_keys.values(), reference, lambda what: asked.append(what) or PIN)
        add_signature(pending, signer, now=NOW)
    seal_pending(open_pending(medium), keyring, now=NOW)

    assert asked == [f"PIN of the token {LABEL}"]
    assert site.import_(medium).is_dir()
    assert not (keyring.directory / "targets-1.pem").exists()


def test_a_keyring_finds_a_token_by_its_file(tmp_path: Path, keyring: Keyring, site: Site, token: Token) -> None:
    place = token.make_key(12)
    adopt(keyring, place, "targets-1")
    (keyring.directory / "targets-1.token").write_text(f"{place}\n")
    (keyring.directory / "targets-3.pem").unlink()

    medium = write_bundle(tmp_path / "medium", Keyring.load(keyring.directory, secret=pin)).folder

    assert site.import_(medium).is_dir()
    renew(keyring, "targets-1", now=NOW)
    assert (keyring.directory / "targets-1.retired-v2.token").is_file()


def test_another_key_of_the_token_is_refused(keyring: Keyring, token: Token) -> None:
    place, other = token.make_key(13), token.make_key(14)
    adopt(keyring, place, "targets-1")
    root = keyring.root
    keys = [root.keys[key_id] for key_id in root.roles["targets"].keyids]

    with pytest.raises(SignatureRefused, match="is none of targets-1"):
        opened_as(keys, other, pin)

    mine = tokens.public_key(place, pin)
    with pytest.raises(SignatureRefused, match="not the one that the root names"):
        tokens.signer(other, mine, pin).sign(b"anything")


def test_a_pin_is_asked_for_once_and_a_wrong_one_a_missing_key_and_a_missing_token_are_said_so(token: Token) -> None:
    place = token.make_key(15)
    key = tokens.public_key(place, pin)

    asked: list[str] = []
    signer = tokens.signer(place, key, lambda what: asked.append(what) or PIN)
    assert signer.sign(b"one") != signer.sign(b"other")
    assert len(asked) == 1

    with pytest.raises(KeyLocked, match="PinIncorrect"):
        tokens.signer(place, key, lambda _: "000000").sign(b"anything")
    with pytest.raises(KeyLocked, match="could not find"):
        tokens.public_key(place.replace("hsm:15", "hsm:77"), pin)
    with pytest.raises(KeyLocked, match="No PKCS#11 token"):
        tokens.public_key("hsm:15?label=nobody", pin)


@pytest.mark.parametrize("place", ["hsm:", "hsm:x?label=a", "hsm:2", "hsm:2?label=", "file:2?label=a"])
def test_a_place_that_says_too_little_is_refused(place: str) -> None:
    with pytest.raises(KeyLocked, match="does not say where"):
        tokens.public_key(place, pin)


def test_another_curve_on_the_token_is_refused(token: Token) -> None:
    with pytest.raises(SignatureRefused, match="nistp256"):
        tokens.public_key(token.make_key(16, "secp256r1"), pin)


def test_a_token_is_opened_with_its_key_alone() -> None:
    with pytest.raises(NotImplementedError):
        tokens.TokenSigner.from_priv_key_uri("hsm:2?label=a", None)
