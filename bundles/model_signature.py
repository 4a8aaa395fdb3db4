"""An OpenSSF Model Signing signature of the weights, for peers who trust no code of ours.

    signatures/weights.sig    Sigstore bundle v0.3 > DSSE envelope > in-toto statement > digest of every file
    signatures/weights.pub    the P-384 key that verifies it, PEM

Any auditor checks the folder `weights/` of a slot with the public tool alone:

    model_signing verify key --no-ignore-git-paths --public_key weights.pub --signature weights.sig weights

It is written in the method *files* with SHA-256: what the tool's command line verifies, and the
digests that `release.json` has already. It binds no version and no expiry and has one signer: whether
a release may be used here is decided by `bundles.trust` alone, never by this. The signature is deterministic
(RFC 6979, allowed by FIPS 186-5), so that the same recipe gives the same `release.json`.

Specifications: OpenSSF Model Signing 1.0, DSSE 1.0 (pre-authentication encoding), in-toto Statement v1.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from bundles import private_keys
from bundles.errors import SignatureRefused
from bundles.release import FileEntry

SIGNATURE = "signatures/weights.sig"
PUBLIC_KEY = "signatures/weights.pub"
FOLDER = "weights/"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def signature_files(files: Iterable[FileEntry], signer: CryptoSigner) -> Mapping[str, bytes]:
    """Return signature and public key (path to bytes) over the files below `weights/`; nothing where there are none.

    Raises SignatureRefused for a key that the public tool does not take.
    """
    weights = sorted(
        (entry.path.removeprefix(FOLDER), entry.sha256) for entry in files if entry.path.startswith(FOLDER)
    )
    if not weights:
        return {}
    private = load_pem_private_key(signer.private_bytes, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise SignatureRefused(
            detail=f"the weights key is of kind {signer.public_key.scheme}; peers' tool takes elliptic curves",
            remedy="Take a P-384 key as weights.pem.",
        )
    public = private_keys.public_pem(signer.public_key)
    payload = json.dumps(_statement(weights), sort_keys=True, separators=(",", ":")).encode()
    signature = private.sign(
        pre_authentication(PAYLOAD_TYPE, payload), ec.ECDSA(SHA384(), deterministic_signing=True)
    )  # RFC 6979
    return {SIGNATURE: _bundle(payload, signature, hashlib.sha256(public).hexdigest()), PUBLIC_KEY: public}


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return what a DSSE signature is over (DSSE 1.0, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _statement(weights: list[tuple[str, str]]) -> object:
    """Return the in-toto statement. Its subject's digest is over the digests alone, as the specification has it."""
    whole = hashlib.sha256(b"".join(bytes.fromhex(sha256) for _, sha256 in weights)).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": FOLDER.rstrip("/"), "digest": {"sha256": whole}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": name, "algorithm": "sha256", "digest": sha256} for name, sha256 in weights],
        },
    }


def _bundle(payload: bytes, signature: bytes, hint: str) -> bytes:
    plain = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(plain, indent=1).encode() + b"\n"
