"""Private keys on disk: encrypted so that others can read the format, and nobody the key."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bundles import private_keys
from bundles.errors import KeyLocked, SignatureRefused
from bundles.keys import Keyring
from bundles.private_keys import ECDSA, MLDSA, open_private, private_pem, public_pem, read_public
from tests.support.small_bundles import NOW

PASSPHRASE = "seven grey boats leave at dawn"  # noqa: S105  of keys that live as long as this test


@pytest.mark.parametrize("scheme", [ECDSA, MLDSA])
def test_an_encrypted_key_opens_with_its_passphrase_only(tmp_path: Path, scheme: str) -> None:
    signer = private_keys.generate(scheme)
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(signer, PASSPHRASE))
    asked: list[str] = []

    opened = open_private(path, lambda what: asked.append(what) or PASSPHRASE)

    assert opened.public_key == signer.public_key
    assert asked == ["passphrase of key.pem"]
    with pytest.raises(KeyLocked, match="does not open"):
        open_private(path, lambda _: PASSPHRASE.upper())
    with pytest.raises(KeyLocked, match="nobody can be asked"):
        open_private(path)


def test_openssl_reads_the_envelope_and_finds_600_000_rounds(tmp_path: Path) -> None:
    signer = private_keys.generate(ECDSA)
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(signer, PASSPHRASE))

    shown = subprocess.run(["openssl", "asn1parse", "-in", path], check=True, capture_output=True, text=True).stdout
    public = subprocess.run(
        ["openssl", "pkey", "-in", path, "-passin", "stdin", "-pubout"],
        check=True,
        capture_output=True,
        input=PASSPHRASE.encode(),
    ).stdout

    assert [name for name in ("PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc") if name in shown] == [
        "PBES2",
        "PBKDF2",
        "hmacWithSHA256",
        "aes-256-cbc",
    ]
    assert f"INTEGER           :{600_000:06X}" in shown
    assert public == public_pem(signer.public_key)


def test_two_files_of_one_key_share_nothing() -> None:
    signer = private_keys.generate(ECDSA)

    one, other = private_pem(signer, PASSPHRASE), private_pem(signer, PASSPHRASE)

    assert one.splitlines()[3:5] != other.splitlines()[3:5]
    assert signer.private_bytes.splitlines()[1] not in one


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(KeyLocked, match="at least 8"):
        private_pem(private_keys.generate(ECDSA), "1234567")


def test_a_keyring_with_a_passphrase_holds_no_readable_private_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_keys, "ROUNDS", 1000)  # nine keys; the real number is looked at above
    keyring = Keyring.create(tmp_path / "keys", now=NOW, passphrase=PASSPHRASE, weights=True)

    pems = list(keyring.directory.glob("*.pem"))
    assert len(pems) == 9
    assert all(path.read_bytes().startswith(private_keys.ENCRYPTED) for path in pems)
    with pytest.raises(KeyLocked):
        Keyring.load(keyring.directory).signers("timestamp")
    assert len(Keyring.load(keyring.directory, secret=lambda _: PASSPHRASE).signers("timestamp")) == 1


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "garbage", "p256"])
def test_other_kinds_of_keys_are_refused(tmp_path: Path, kind: str) -> None:
    path, public = tmp_path / "key.pem", tmp_path / "key.pub"
    if kind == "garbage":
        path.write_bytes(b"no key")
        public.write_bytes(b"no key")
    else:
        options = {
            "rsa": ["-algorithm", "RSA"],
            "ed25519": ["-algorithm", "ED25519"],
            "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        }
        subprocess.run(["openssl", "genpkey", *options[kind], "-out", path], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-out", public], check=True, capture_output=True)

    with pytest.raises(SignatureRefused, match="P-384 or ML-DSA-87"):
        open_private(path)
    with pytest.raises(SignatureRefused, match="P-384 or ML-DSA-87"):
        read_public(public)


def test_a_key_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    for read in (private_keys.open_private, private_keys.read_public):
        with pytest.raises(KeyLocked) as caught:
            read(tmp_path / "nobody.pem")
        assert "nobody.pem" in caught.value.detail
