from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundles.cli import bundle as commands
from bundles.cli.media import size
from bundles.keys import Keyring
from bundles.layout import open_bundle
from bundles.media.header import read_header
from bundles.release import Release
from tests.unit.bundles.site import Site, flip_bit
from tests.unit.media.reading import copied, same_as_signed, take


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


def events(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("text", "found"),
    [("32GB", 32 * 10**9), ("4.7 GB", 4_700_000_000), ("700MiB", 700 * 2**20), ("1tb", 10**12), ("2TiB", 2**41)],
)
def test_a_size_is_read_as_it_stands_on_a_stick(text: str, found: int) -> None:
    assert size(text) == found


def test_a_size_without_a_unit_is_a_usage_error(bundle: Path, tmp_path: Path) -> None:
    result = run("split", bundle, "--volume-size", "32", "--out", tmp_path / "set")

    assert result.exit_code == 2
    assert "is not a size like 32GB" in result.output
    assert not (tmp_path / "set").exists()


def test_split_writes_volumes_that_an_import_takes(bundle: Path, release: Release, site: Site, tmp_path: Path) -> None:
    result = run("split", bundle, "--volume-size", "40MB", "--parity", 1, "--out", tmp_path / "set", "--json")

    told = [event for event in events(result) if event["event"] == "volume"]
    volumes = [Path(str(event["folder"])) for event in told]
    assert [event["kind"] for event in told] == ["data", "data", "data", "parity"]
    assert same_as_signed(take(site, *volumes[1:]), release)


def test_split_writes_one_volume_straight_onto_a_stick(bundle: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "holiday.jpg").write_bytes(b"not ours")

    result = run("split", bundle, "--volume-size", "40MB", "--volume", 2, "--out", stick)

    header = read_header(open_bundle(stick))
    assert result.exit_code == 0
    assert header is not None
    assert (header.number, header.data) == (2, 3)
    assert header.label in result.output
    assert (stick / "holiday.jpg").read_bytes() == b"not ours"


def test_split_has_no_volume_beyond_the_set(bundle: Path, tmp_path: Path) -> None:
    result = run("split", bundle, "--volume-size", "40MB", "--volume", 9, "--out", tmp_path / "stick")

    assert result.exit_code == 2
    assert "there is no volume 9" in result.output
    assert not (tmp_path / "stick").exists()


def test_a_repair_goes_from_request_to_import(bundle: Path, release: Release, site: Site, tmp_path: Path) -> None:
    damaged = copied(bundle, tmp_path / "damaged")
    flip_bit(max((damaged / "blobs").iterdir(), key=lambda path: path.stat().st_size), 1)

    asked = run("repair-request", damaged, "--out", tmp_path / "request", "--qr", "--node", tmp_path / "none")
    made = run("repair", bundle, tmp_path / "request", "--out", tmp_path / "repair")

    assert (asked.exit_code, made.exit_code) == (0, 0)
    assert (tmp_path / "request").read_text().strip() in asked.output
    assert "▄" in asked.output
    assert same_as_signed(take(site, damaged, tmp_path / "repair"), release)


def test_nothing_is_requested_where_nothing_is_damaged(bundle: Path, tmp_path: Path) -> None:
    result = run("repair-request", bundle, "--out", tmp_path / "request", "--node", tmp_path)

    assert result.exit_code == 0
    assert "Nothing is damaged" in result.output
    assert not (tmp_path / "request").exists()


def test_a_request_too_long_for_a_code_goes_as_a_file(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = copied(bundle, tmp_path / "damaged")
    flip_bit(max((damaged / "blobs").iterdir(), key=lambda path: path.stat().st_size), 1)
    monkeypatch.setattr("bundles.media.request.MAX_QR_CHARACTERS", 10)

    result = run("repair-request", damaged, "--qr", "--node", tmp_path / "none")

    assert "too long for a QR code" in result.output
    assert "▄" not in result.output


def test_a_request_that_is_no_text_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(b"\xff\xfe")

    result = run("repair", bundle, tmp_path / "request", "--out", tmp_path / "repair")

    assert result.exit_code == 2
    assert "repair request cannot be used" in result.output
    assert not (tmp_path / "repair").exists()


def test_verify_reads_volumes_together(volumes: tuple[Path, ...], keyring: Keyring, tmp_path: Path) -> None:
    damaged = copied(volumes[2], tmp_path / "damaged")
    flip_bit(max((damaged / "blobs").iterdir(), key=lambda path: path.stat().st_size), 1)
    paper = ("--root-fingerprint", keyring.fingerprint)

    whole = run("verify", *volumes[:3], *volumes[5:], *paper)
    partial = run("verify", *volumes[:3], *paper)
    bad = run("verify", *volumes[:2], damaged, *volumes[3:5], *paper)
    mended = run("verify", *volumes[:2], damaged, *volumes[3:6], *paper)

    assert [one.exit_code for one in (whole, partial, bad, mended)] == [0, 2, 2, 0]
    assert whole.output.splitlines()[-1].startswith("VERIFIED")
    assert "REFUSED" in partial.output
    assert "REFUSED" in bad.output
