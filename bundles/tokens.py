"""Keys on a token (PKCS #11): a YubiKey, a smart card, a hardware security module, or SoftHSM2.

The private key never leaves the token. A key's place is written `hsm:ID?label=TOKEN`: ID is the
number that the token knows the key pair by (2 is the signature slot 9c of a PIV card), TOKEN is its
label. Keys are ECDSA P-384; the digest is made here, the signature there (CKM_ECDSA, FIPS 186-5).

The PKCS #11 module of the token's maker is named by the environment variable PYKCS11LIB, as
securesystemslib has it, or by `--module`. Needs the extra `pkcs11`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import UnsupportedLibraryError, UnverifiedSignatureError
from securesystemslib.signer import HSMSigner, Signature, Signer, SSlibKey

from bundles.errors import KeyLocked, SignatureRefused
from bundles.private_keys import ECDSA, Secret

SCHEME = "hsm:"


class TokenSigner(Signer):
    """Signs on a token; asks for the PIN once, and says in words what the token refuses."""

    def __init__(self, signer: HSMSigner, reference: str) -> None:
        self._signer = signer
        self._reference = reference

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: object, secrets_handler: object = None) -> TokenSigner:
        """Not offered: `signer` is the way in."""
        raise NotImplementedError

    @property
    def public_key(self) -> SSlibKey:
        """The public half, under its name in the root."""
        return self._signer.public_key

    def sign(self, payload: bytes) -> Signature:
        """Return the token's signature. Raises KeyLocked; SignatureRefused where it is another key's."""
        with _in_words(self._reference):
            signature = self._signer.sign(payload)
            self.public_key.verify_signature(signature, payload)
        return signature


def signer(reference: str, key: SSlibKey, secret: Secret) -> TokenSigner:
    """Give the signer of `key` on a token. Raises KeyLocked where the reference cannot be read."""
    number, label = _place(reference)
    pins: list[str] = []

    def pin(_what: str) -> str:
        if not pins:
            pins.append(secret(f"PIN of the token {label}"))
        return pins[0]

    return TokenSigner(HSMSigner(number, key, pin, label), reference)


def public_key(reference: str, secret: Secret) -> SSlibKey:
    """Read a public key from a token; the PIN is asked for only where the token hides it.

    Raises KeyLocked, SignatureRefused for a key of another kind than P-384.
    """
    number, label = _place(reference)
    with _in_words(reference):
        _, key = HSMSigner.import_(number, label, lambda _what: secret(f"PIN of the token {label}"))
    if key.scheme != ECDSA:
        raise SignatureRefused(detail=f"{reference} is of kind {key.scheme}", remedy="Make a P-384 key on the token.")
    return key


def _place(reference: str) -> tuple[int, str]:
    parts = urlsplit(reference)
    label = dict(parse_qsl(parts.query)).get("label")
    if parts.scheme != SCHEME.rstrip(":") or not parts.path.isdecimal() or not label:
        raise KeyLocked(
            detail=f"{reference[:80]!a} does not say where on which token", remedy="Write it as hsm:ID?label=TOKEN."
        )
    return int(parts.path), label


@contextmanager
def _in_words(reference: str) -> Iterator[None]:
    try:
        yield
    except UnverifiedSignatureError as error:
        raise SignatureRefused(
            detail=f"the key in {reference} is not the one that the root names",
            remedy="Use the token of that key, or replace the key: `leeward bundle keys replace-signer`.",
        ) from error
    except (ValueError, RuntimeError, UnsupportedLibraryError) as error:  # python-pkcs11's errors are RuntimeErrors
        raise KeyLocked(
            detail=f"{reference} could not be used: {str(error) or type(error).__name__}",
            remedy="Check that the token is plugged in, its label, id and PIN, and the module that PYKCS11LIB names.",
        ) from error
