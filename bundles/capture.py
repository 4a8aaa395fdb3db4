"""Captured exchanges: what was asked and answered, sealed so that one auditor alone can read it.

One exchange is one line of JSON with the fields of `Sealed`. `sealed` is HPKE (RFC 9180, base mode,
DHKEM(P-384, HKDF-SHA384), HKDF-SHA384, AES-256-GCM) of canonical JSON with the fields of `Captured`:
the encapsulated key of 97 bytes, then the ciphertext with its tag, in base64. The info of HPKE is
`leeward-capture/1`, the request's id and its time, each ended by a line feed, so that no line can be
passed off as another request's. `auditor` is the SHA-256 of the public key (SubjectPublicKeyInfo,
DER). The node keeps the public key alone and cannot open what it sealed.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from bundles.codec import CodecError, canonical_json, from_plain, parse_json, to_plain
from bundles.errors import ContentMismatch, SignatureRefused

SCHEMA: Final = "leeward-capture/1"
_SUITE: Final = Suite(KEM.P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One exchange in clear. Texts are those of the API: what the engine was asked, and its answer as it came."""

    request_id: str
    at: str
    team: str
    key_id: str
    endpoint: str
    request: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A line of a capture file."""

    schema: str
    request_id: str
    at: str
    auditor: str
    sealed: str


def auditor_key(pem: bytes) -> EllipticCurvePublicKey:
    """Read an auditor's public key. Raises SignatureRefused for anything but a P-384 key."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise _no_key(str(error)) from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP384R1):
        raise _no_key("its kind is another")
    return key


def fingerprint(key: EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key, hexadecimal."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def seal(captured: Captured, to: EllipticCurvePublicKey) -> bytes:
    """Return one line, without its line feed."""
    sealed = _SUITE.encrypt(canonical_json(to_plain(captured)), to, info=_info(captured.request_id, captured.at))
    line = Sealed(
        schema=SCHEMA,
        request_id=captured.request_id,
        at=captured.at,
        auditor=fingerprint(to),
        sealed=base64.b64encode(sealed).decode(),
    )
    return canonical_json(to_plain(line))


def unseal(line: bytes, key: EllipticCurvePrivateKey) -> Captured:
    """Open one line.

    Raises ContentMismatch for a line that is broken, was changed, or is sealed for somebody else.
    """
    try:
        outer = from_plain(parse_json(line), Sealed)
        if outer.schema != SCHEMA:
            raise _broken(f"its schema is {outer.schema}")
        if outer.auditor != fingerprint(key.public_key()):
            raise _broken(f"request {outer.request_id} is sealed for the key {outer.auditor[:16]}…, which is another")
        plain = _SUITE.decrypt(
            base64.b64decode(outer.sealed, validate=True), key, info=_info(outer.request_id, outer.at)
        )
        inner = from_plain(parse_json(plain), Captured)
    except (CodecError, binascii.Error) as error:
        raise _broken(f"it cannot be read: {error}") from error
    except (InvalidTag, ValueError) as error:
        raise _broken("it does not open: it was changed") from error
    if (inner.request_id, inner.at) != (outer.request_id, outer.at):
        raise _broken("what is sealed is about another request")
    return inner


def at_text(at: datetime) -> str:
    """Write a time as the lines have it, to the microsecond."""
    return at.isoformat(timespec="microseconds")


def _info(request_id: str, at: str) -> bytes:
    return f"{SCHEMA}\n{request_id}\n{at}\n".encode()


def _broken(why: str) -> ContentMismatch:
    return ContentMismatch(
        detail=f"A line of the capture file is no evidence: {why}.",
        remedy="A last line may be cut where the gateway was killed. Any other: keep the file and ask who held it.",
    )


def _no_key(why: str) -> SignatureRefused:
    return SignatureRefused(
        detail=f"This is no auditor's public key: {why}.",
        remedy="The auditor makes one with `leeward bundle keys generate FILE` and hands over FILE.pub.",
    )
