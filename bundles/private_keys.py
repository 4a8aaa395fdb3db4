"""Private keys: made here, kept as encrypted PEM files, and opened by whoever knows the passphrase.

A file is PKCS #8 (RFC 5958). With a passphrase it is an EncryptedPrivateKeyInfo of PBES2 (RFC 8018):
PBKDF2 with HMAC-SHA-256, then AES-256-CBC; all of it approved by FIPS 140-3, and read by `openssl
pkey`. cryptography would write 2,048 rounds and takes no other number, so that the envelope is
written here.

A passphrase comes from a person or a file descriptor (`Secret`), never from an argument or the
environment, where other processes could read it. Keys on a token: `bundles.tokens`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from bundles.errors import KeyLocked, SignatureRefused

MLDSA = "ml-dsa-87/1"
ECDSA = "ecdsa-sha2-nistp384"
SCHEMES = frozenset({MLDSA, ECDSA})
ROUNDS = 600_000
"""PBKDF2 rounds; OWASP's password storage cheat sheet of 2023 for HMAC-SHA-256."""
MAX_KEY_BYTES = 64_000
ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"

Secret = Callable[[str], str]
"""Asks for a secret: called with what it is for ("passphrase of targets-1.pem"), returns it."""

_OID_PBES2 = bytes.fromhex("2a864886f70d01050d")
_OID_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_OID_HMAC_SHA256 = bytes.fromhex("2a864886f70d0209")
_OID_AES256_CBC = bytes.fromhex("60864801650304012a")
_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
_LONG_FORM = 0x80
_SHORTEST_PASSPHRASE = 8


def no_secret(what: str) -> str:
    """Nobody can be asked. Raises KeyLocked."""
    raise KeyLocked(
        detail=f"the {what} is needed, and nobody can be asked for it",
        remedy="Run the command in a terminal, or give the secret with `--passphrase-fd`.",
    )


def generate(scheme: str) -> CryptoSigner:
    """Make a new key of one of SCHEMES."""
    if scheme == MLDSA:
        return CryptoSigner.generate_mldsa(scheme=scheme)
    return CryptoSigner.generate_ecdsa(scheme=scheme)


def private_pem(signer: CryptoSigner, passphrase: str | None) -> bytes:
    """Return the private key of `signer` as PEM, encrypted where a passphrase is given.

    Raises KeyLocked for a passphrase of fewer than 8 characters.
    """
    if passphrase is None:
        return bytes(signer.private_bytes)
    if len(passphrase) < _SHORTEST_PASSPHRASE:
        raise KeyLocked(
            detail=f"a passphrase must have at least {_SHORTEST_PASSPHRASE} characters",
            remedy="Choose a longer one, such as six random words.",
        )
    plain = signer._private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())  # noqa: SLF001  it offers PEM alone
    return _armor("ENCRYPTED PRIVATE KEY", _encrypted(plain, passphrase.encode()))


def public_pem(key: SSlibKey) -> bytes:
    """Return a public key as PEM (SubjectPublicKeyInfo)."""
    return bytes(load_pem_public_key(key.keyval["public"].encode()).public_bytes(_PEM, _SPKI))


def read_public(path: Path) -> SSlibKey:
    """Read a public key from a PEM file. Raises SignatureRefused where it is none that Leeward takes."""
    try:
        return _accepted(SSlibKey.from_crypto(load_pem_public_key(_read(path))), path)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, f"is no public key: {error}") from error


def open_private(path: Path, secret: Secret = no_secret) -> CryptoSigner:
    """Open a private key; asks for the passphrase where the file is encrypted.

    Raises KeyLocked for a wrong passphrase, SignatureRefused for anything but a P-384 or ML-DSA-87 key.
    """
    try:
        signer = CryptoSigner(_load(path, secret))
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, f"is no private key: {error}") from error
    _accepted(signer.public_key, path)
    return signer


def open_exchange_key(path: Path, secret: Secret = no_secret) -> EllipticCurvePrivateKey:
    """Open the P-384 key to which something was sealed. Raises KeyLocked, SignatureRefused as `open_private` does."""
    key = _load(path, secret)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP384R1):
        raise _no_key(path, "is no key of P-384")
    return key


def _load(path: Path, secret: Secret) -> PrivateKeyTypes:
    content = _read(path)
    passphrase = secret(f"passphrase of {path.name}") if ENCRYPTED in content else None
    try:
        return load_pem_private_key(content, None if passphrase is None else passphrase.encode())
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise KeyLocked(
                detail=f"{path} does not open with this passphrase",
                remedy="Try again; where the passphrase is lost, the key must be replaced (`leeward bundle keys`).",
            ) from error
        raise _no_key(path, f"is no private key: {error}") from error


def _accepted(key: SSlibKey, path: Path) -> SSlibKey:
    if key.scheme not in SCHEMES:
        raise _no_key(path, f"is of kind {key.scheme}")
    return key


def _no_key(path: Path, why: str) -> SignatureRefused:
    return SignatureRefused(
        detail=f"{path} {why}; keys are ECDSA P-384 or ML-DSA-87, in PEM",
        remedy="Make one with `leeward bundle keys generate`.",
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_KEY_BYTES)
    except OSError as error:
        raise KeyLocked(
            detail=f"{path} cannot be read: {error.strerror or error}",
            remedy="Name the file that holds the key, and run this as who may read it.",
        ) from error


def _encrypted(plain: bytes, passphrase: bytes) -> bytes:
    """Return an EncryptedPrivateKeyInfo (RFC 5958, section 3) of PBES2 (RFC 8018, appendix A.4)."""
    salt, start = os.urandom(16), os.urandom(16)
    pad = padding.PKCS7(algorithms.AES.block_size).padder()
    cipher = Cipher(
        algorithms.AES(hashlib.pbkdf2_hmac("sha256", passphrase, salt, ROUNDS, 32)), modes.CBC(start)
    ).encryptor()
    sealed = cipher.update(pad.update(plain) + pad.finalize()) + cipher.finalize()
    rounds = _der(_INTEGER, ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1))
    prf = _sequence(_der(_OID, _OID_HMAC_SHA256), _der(_NULL, b""))
    derivation = _sequence(_der(_OID, _OID_PBKDF2), _sequence(_der(_OCTETS, salt), rounds, prf))
    encryption = _sequence(_der(_OID, _OID_AES256_CBC), _der(_OCTETS, start))
    algorithm = _sequence(_der(_OID, _OID_PBES2), _sequence(derivation, encryption))
    return _sequence(algorithm, _der(_OCTETS, sealed))


def _sequence(*parts: bytes) -> bytes:
    return _der(_SEQUENCE, b"".join(parts))


def _der(tag: int, content: bytes) -> bytes:
    """Return one DER value (X.690, section 8.1)."""
    length = len(content)
    if length < _LONG_FORM:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, _LONG_FORM | len(size))) + size + content


def _armor(label: str, der: bytes) -> bytes:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


_PEM, _SPKI = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
