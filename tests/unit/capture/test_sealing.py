"""Sealed lines: who opens them, and what is found when they were touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click.testing
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bundles import private_keys
from bundles.capture import Captured, auditor_key, fingerprint, seal, unseal
from bundles.cli import bundle
from bundles.errors import ContentMismatch, KeyLocked, SignatureRefused

EXCHANGE = Captured(
    request_id="0193", at="2026-11-24T12:00:00.000000+00:00", team="research", key_id="key_1",
    endpoint="/v1/chat/completions", request='{"messages": "wörd"}', answer="data: x\n\n",
)  # fmt: skip


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def test_the_auditor_reads_what_was_said_and_the_line_shows_none_of_it(key: ec.EllipticCurvePrivateKey) -> None:
    line = seal(EXCHANGE, key.public_key())

    assert unseal(line, key) == EXCHANGE
    assert set(json.loads(line)) == {"schema", "request_id", "at", "auditor", "sealed"}
    assert seal(EXCHANGE, key.public_key()) != line
    for text in ("wörd", "research", "key_1", "/v1/chat"):
        assert text.encode() not in line


def test_nobody_else_opens_it(key: ec.EllipticCurvePrivateKey) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    line = json.loads(seal(EXCHANGE, key.public_key()))

    with pytest.raises(ContentMismatch, match="another"):
        unseal(json.dumps(line).encode(), other)
    with pytest.raises(ContentMismatch, match="does not open"):
        unseal(json.dumps(line | {"auditor": fingerprint(other.public_key())}).encode(), other)


@pytest.mark.parametrize("field", ["request_id", "at", "sealed", "schema"])
def test_a_line_cannot_be_changed_or_passed_off_as_another_requests(
    key: ec.EllipticCurvePrivateKey, field: str
) -> None:
    line, other = (
        json.loads(
            seal(replace(EXCHANGE, request_id=name, at=f"2026-11-24T12:00:0{name}.000000+00:00"), key.public_key())
        )
        for name in "12"
    )
    line[field] = "leeward-capture/2" if field == "schema" else other[field]

    with pytest.raises(ContentMismatch):
        unseal(json.dumps(line).encode(), key)


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"\xff", b'{"schema": 1}', b"null"])
def test_what_is_no_line_is_no_evidence(key: ec.EllipticCurvePrivateKey, line: bytes) -> None:
    with pytest.raises(ContentMismatch):
        unseal(line, key)


def test_only_a_p384_key_is_an_auditors(key: ec.EllipticCurvePrivateKey) -> None:
    def pem(one: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
        return one.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    assert auditor_key(pem(key.public_key())) == key.public_key()
    for other in (
        pem(ec.generate_private_key(ec.SECP256R1()).public_key()),
        pem(rsa.generate_private_key(65_537, 2_048).public_key()),
        b"",
        b"x",
    ):
        with pytest.raises(SignatureRefused):
            auditor_key(other)


def test_the_auditors_command_opens_a_file_and_names_what_does_not_open(tmp_path: Path) -> None:
    signer = private_keys.generate(private_keys.ECDSA)
    secret, public, captured = tmp_path / "a.pem", private_keys.public_pem(signer.public_key), tmp_path / "day.jsonl"
    secret.write_bytes(private_keys.private_pem(signer, "correct horse"))
    lines = [seal(replace(EXCHANGE, request_id=str(n)), auditor_key(public)) for n in range(3)]
    captured.write_bytes(b"\n".join([*lines, lines[0][:-40]]))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")

    with passphrase.open("rb") as descriptor:
        run = click.testing.CliRunner().invoke(
            bundle, ["open-capture", str(captured), "--key", str(secret), "--passphrase-fd", str(descriptor.fileno())]
        )

    told = [json.loads(line) for line in run.output.splitlines() if line.startswith("{")]
    assert [each["request_id"] for each in told] == ["0", "1", "2"]
    assert {each["answer"] for each in told} == {EXCHANGE.answer}
    assert run.exit_code == 4
    assert "3 exchanges were opened, 1 lines were not. line 4" in run.output
    with pytest.raises(KeyLocked):
        private_keys.open_exchange_key(secret, lambda _: "wrong horse")
