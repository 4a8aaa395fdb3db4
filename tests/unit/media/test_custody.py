from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tuf.api.metadata import Root

from bundles.cli import bundle as commands
from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, MediaMissing, ReceiptInvalid, ScanFailed, ScanRefused
from bundles.keys import Keyring
from bundles.layout import manifest_bytes, open_bundle
from bundles.media.labels import labels, page, proquints
from bundles.media.opening import open_media
from bundles.media.receipts import (
    MAX_RECEIPT_BYTES,
    Act,
    ReceiptFolder,
    check_chain,
    checked_chain,
    read_receipt,
    receipts_on,
    sign_receipt,
)
from bundles.media.scan import scan
from bundles.media.split import write_repair
from tests.support.small_bundles import NOW
from tests.unit.media.reading import copied

RELEASE = "ab" * 32


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def site_keys(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.create_site(tmp_path_factory.mktemp("receipts") / "site", now=NOW)


@pytest.fixture
def roots(keyring: Keyring, site_keys: Keyring) -> dict[str, Root]:
    return {keys.fingerprint: keys.root for keys in (keyring, site_keys)}


@pytest.fixture
def chain(tmp_path: Path, keyring: Keyring, site_keys: Keyring) -> ReceiptFolder:
    """Four receipts: built and burned by the publisher, scanned and imported at the site."""
    folder = ReceiptFolder(tmp_path / "receipts")
    for number, act in enumerate((Act.BUILD, Act.BURN, Act.SCAN, Act.IMPORT)):
        folder.add(
            keyring if number < 2 else site_keys,
            act,
            release=RELEASE,
            by="Ada",
            place="gate 3",
            at=NOW + timedelta(hours=number),
            volumes=("LW-ABAB-D1",),
        )
    return folder


def files(folder: ReceiptFolder) -> list[Path]:
    return sorted(folder.path.iterdir())


def test_a_chain_of_receipts_holds_across_two_keyrings(chain: ReceiptFolder, roots: dict[str, Root]) -> None:
    found = chain.read(roots, release=RELEASE)

    assert [one.receipt.act for one in found] == [Act.BUILD, Act.BURN, Act.SCAN, Act.IMPORT]
    assert [one.signed_by for one in found] == [("timestamp",)] * 4
    assert found[3].receipt.previous == found[2].sha256


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_receipt_that_is_left_out_breaks_the_chain(
    missing: int, chain: ReceiptFolder, roots: dict[str, Root]
) -> None:
    files(chain)[missing].unlink()
    with pytest.raises(ReceiptInvalid, match=f"where receipt {missing + 1:03d} is expected"):
        chain.read(roots)
    for number, path in enumerate(files(chain), start=1):
        path.rename(path.with_name(f"{number:03d}{path.name[3:]}"))

    with pytest.raises(ReceiptInvalid, match=f"receipt {missing + 1} .* does not follow"):
        chain.read(roots)


def test_receipts_in_another_order_break_the_chain(chain: ReceiptFolder, roots: dict[str, Root]) -> None:
    found = chain.read(roots)

    with pytest.raises(ReceiptInvalid, match="does not follow"):
        check_chain([found[0], found[2], found[1], found[3]])


def test_a_forged_receipt_is_refused(chain: ReceiptFolder, roots: dict[str, Root]) -> None:
    envelope = json.loads(files(chain)[1].read_bytes())
    other = json.loads(files(chain)[2].read_bytes())
    files(chain)[1].write_text(json.dumps({**envelope, "payload": other["payload"]}))

    with pytest.raises(ReceiptInvalid, match="signature does not hold"):
        chain.read(roots)


def test_a_receipt_of_unknown_keys_is_refused(chain: ReceiptFolder, keyring: Keyring) -> None:
    with pytest.raises(ReceiptInvalid, match="nobody who is known here"):
        chain.read({keyring.fingerprint: keyring.root})


def test_receipts_about_another_release_are_refused(
    chain: ReceiptFolder, roots: dict[str, Root], keyring: Keyring
) -> None:
    with pytest.raises(ReceiptInvalid, match=r"receipt 1 .* is about the release abab"):
        chain.read(roots, release="cd" * 32)
    chain.add(keyring, Act.HANDOVER, release="cd" * 32, by="Bob", place="", at=NOW)

    with pytest.raises(ReceiptInvalid, match=r"receipt 5 .* is about the release cdcd"):
        chain.read(roots)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"payload":1}', b"\xff", b" " * (MAX_RECEIPT_BYTES + 1), b"[" * 60_000]
)
def test_what_is_no_receipt_is_refused(content: bytes, roots: dict[str, Root]) -> None:
    with pytest.raises(ReceiptInvalid):
        read_receipt(content, roots)


def test_a_receipt_says_only_what_its_schema_allows(
    chain: ReceiptFolder, roots: dict[str, Root], keyring: Keyring
) -> None:
    good = chain.read(roots)[0].receipt

    with pytest.raises(ValueError, match="schema"):
        replace(good, schema="leeward-receipt/9")
    with pytest.raises(ValueError, match="64 lower-case hex"):
        replace(good, previous="x")
    assert read_receipt(sign_receipt(good, keyring), roots).receipt == good


def test_a_folder_is_full_at_999_receipts(tmp_path: Path, keyring: Keyring) -> None:
    for number in range(1, 1000):
        (tmp_path / f"{number:03d}-burn.receipt.json").touch()

    with pytest.raises(ReceiptInvalid, match="which is the most"):
        ReceiptFolder(tmp_path).add(keyring, Act.BURN, release=RELEASE, by="Ada", place="", at=NOW)

    assert len(list(tmp_path.iterdir())) == 999


def test_receipts_that_cannot_be_read_are_named(tmp_path: Path, roots: dict[str, Root]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder/001-burn.receipt.json").mkdir(parents=True)

    with pytest.raises(MediaMissing, match="file could not be read"):
        ReceiptFolder(tmp_path / "file").read(roots)
    with pytest.raises(MediaMissing, match="001-burn"):
        ReceiptFolder(tmp_path / "folder").read(roots)
    assert ReceiptFolder(tmp_path / "none").read(roots) == ()


def scanner(tmp_path: Path, body: str) -> list[str]:
    script = tmp_path / "scanner.py"
    script.write_text(f"import sys, time\n{body}\n")
    return [sys.executable, str(script)]


def test_a_clean_verdict_keeps_what_the_scanner_said(tmp_path: Path) -> None:
    verdict = scan(tmp_path, scanner(tmp_path, "print('Infected files: 0', sys.argv[1])"))

    assert verdict.said == f"Infected files: 0 {tmp_path}"
    assert verdict.command[-1] == str(tmp_path)


def test_a_finding_stops_the_import(tmp_path: Path) -> None:
    with pytest.raises(ScanRefused, match="Eicar FOUND"):
        scan(tmp_path, scanner(tmp_path, "print('Eicar FOUND'); sys.exit(1)"))


@pytest.mark.parametrize(("body", "why"), [("sys.exit(2)", "status 2"), ("time.sleep(60)", "no verdict")])
def test_no_verdict_is_not_a_clean_one(body: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ScanFailed, match=why):
        scan(tmp_path, scanner(tmp_path, body), timeout_s=1.0)
    with pytest.raises(ScanFailed, match="could not be started"):
        scan(tmp_path, [str(tmp_path / "none")])


def test_receipts_are_added_and_listed_from_the_command_line(
    volumes: tuple[Path, ...], site_keys: Keyring, tmp_path: Path
) -> None:
    folder, root = tmp_path / "receipts", site_keys.directory / "1.root.json"
    keys = ("--keys", site_keys.directory, "--by", "Ada", "--place", "gate 3")

    burned = run("receipt", "add", folder, *volumes, "--act", "burn", "--note", "by hand", *keys)
    scanned = run("receipt", "scan", folder, volumes[0], "--command", "true --quiet", *keys)
    found = run("receipt", "scan", folder, volumes[0], "--command", "false", *keys)
    listed = run("receipt", "list", folder, "--root", root, "--medium", volumes[3])

    assert (burned.exit_code, scanned.exit_code, found.exit_code, listed.exit_code) == (0, 0, 4, 0)
    assert listed.output.splitlines()[-1] == "2 receipts make one chain."
    assert "scan      Ada, gate 3" in listed.output
    assert f"true --quiet {volumes[0]}: clean" in listed.output
    assert len(list(folder.iterdir())) == 2


def test_a_file_that_is_no_root_vouches_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("{}")

    result = run("receipt", "list", tmp_path, "--root", tmp_path / "root.json")

    assert result.exit_code == 2
    assert "is no root.json" in result.output


def test_labels_tell_volumes_apart_and_name_the_root(volumes: tuple[Path, ...], keyring: Keyring) -> None:
    made = labels(open_media(volumes[::-1]))

    assert [label.header.number for label in made] == list(range(1, 8))
    digest = sha256_hex(manifest_bytes(open_bundle(volumes[0])))
    for label in made:
        assert label.header.label in label.text
        assert label.code.split(" ")[1] == digest.upper()
        assert " ".join(proquints(keyring.fingerprint)[:8]) in label.text
        assert set(label.code) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
    assert "volume 1 of 7: data" in made[0].text
    assert "volume 7 of 7: parity" in made[6].text


def test_a_page_of_labels_loads_nothing_and_has_a_code_for_each(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    result = run("labels", *volumes, "--html", tmp_path / "labels.html")

    text = (tmp_path / "labels.html").read_text()
    assert result.exit_code == 0
    assert text.count("<svg") == text.count("<section>") == 7
    assert "http" not in text
    assert "<script" not in text


def test_a_repair_volume_has_a_label_and_a_plain_bundle_has_none(bundle: Path, tmp_path: Path) -> None:
    write_repair(open_media([bundle]), (), tmp_path / "repair")

    assert "repair volume" in labels(open_media([tmp_path / "repair"]))[0].text
    with pytest.raises(MediaMissing, match="plain bundle"):
        labels(open_media([bundle]))


def test_a_label_needs_the_root(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    volume = copied(volumes[0], tmp_path / "volume")
    (volume / "metadata/1.root.json").unlink()

    with pytest.raises(ContentMismatch, match=r"1\.root\.json is missing"):
        labels(open_media([volume]))


def test_words_are_the_proquints_of_their_paper() -> None:
    assert proquints("7f000001") == ("lusab", "babad")
    assert page([]).startswith("<!doctype html>")


@pytest.mark.parametrize("spoil", ["change", "gap", "size"])
def test_receipts_on_a_medium_are_read_as_carefully_as_the_rest_of_it(
    keyring: Keyring, roots: dict[str, Root], tmp_path: Path, spoil: str
) -> None:
    medium = tmp_path / "medium"
    for name in ("metadata", "targets", "blobs"):
        (medium / name).mkdir(parents=True)
    (medium / "metadata/timestamp.json").write_bytes(b"{}")
    chain = ReceiptFolder(medium / "receipts")
    chain.add(keyring, Act.BURN, release=RELEASE, by="Ada", place="", at=NOW)
    whole = receipts_on(open_bundle(medium))
    (found,) = checked_chain(whole, roots, release=RELEASE)
    assert (found.receipt.act, str(found)) == (
        Act.BURN,
        f"burn {NOW:%Y-%m-%d %H:%M} UTC by Ada, signed by timestamp",
    )

    path = medium / "receipts/001-burn.receipt.json"
    if spoil == "gap":
        path.rename(path.with_name("002-burn.receipt.json"))
    else:
        path.write_bytes(path.read_bytes()[:-2] if spoil == "change" else b" " * (MAX_RECEIPT_BYTES + 1))

    with pytest.raises((ReceiptInvalid, ContentMismatch)):
        checked_chain(receipts_on(open_bundle(medium)), roots, release=RELEASE)
