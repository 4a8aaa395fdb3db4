"""Media made to harm: what other tests of the import do not cover already.

Elsewhere: wrong, missing, truncated, extra and linked files, FIFOs, tampered and duplicate-key
manifests, paths outside the grammar and colliding ones (test_import, test_manifest, test_trust);
unsound safetensors (test_safetensors); volumes (tests/unit/media); instructions of deltas
(tests/unit/delta); spoiled bytes of every format (tests/fuzz).
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from bundles import blobs, layout
from bundles.blobs import MediumBlobs
from bundles.errors import ContentMismatch, LeewardError, MediaMissing, ReleaseInvalid
from bundles.keys import Keyring
from bundles.layout import BLOBS, METADATA, TARGETS, Bundle, open_bundle, peek
from bundles.release import MAX_FILE_BYTES, FileEntry
from bundles.verify import import_release
from tests.support.small_bundles import NOW, safetensors_bytes, tree, write_bundle
from tests.unit.bundles.site import Site, blob_of, canonical, flip_bit, resign

SHARD = "weights/target/consolidated.safetensors"
TIB = 1 << 40


def refused(site: Site, medium: Path, error: type[LeewardError]) -> LeewardError:
    """Import, see the refusal, and see that nothing changed and nothing of the medium is in the store."""
    with pytest.raises(error) as caught:
        site.import_(medium)

    assert site.slots() == []
    assert site.policy is None
    assert site.stored() == []
    assert caught.value.remedy
    return caught.value


def sparse(path: Path, size: int) -> None:
    with path.open("r+b") as stream:
        stream.truncate(size)


@pytest.mark.parametrize("where", ["blob", "timestamp", "manifest", "root"])
def test_a_sparse_bomb_is_refused_by_its_size_and_never_read(site: Site, medium: Path, where: str) -> None:
    places = {
        "blob": blob_of(medium, SHARD),
        "timestamp": medium / METADATA / "timestamp.json",
        "manifest": next((medium / TARGETS).iterdir()),
        "root": medium / METADATA / "1.root.json",
    }
    sparse(places[where], 8 * TIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    refused(site, medium, ContentMismatch)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device node needs root")
@pytest.mark.parametrize("numbers", [(1, 5), (1, 3)])  # /dev/zero, /dev/null
def test_a_device_in_place_of_a_file_is_refused_unopened(site: Site, medium: Path, numbers: tuple[int, int]) -> None:
    blob = blob_of(medium, SHARD)
    blob.unlink()
    try:
        os.mknod(blob, 0o20644, os.makedev(*numbers))
    except PermissionError:
        pytest.skip("making a device node is not allowed here")

    error = refused(site, medium, ContentMismatch)

    assert "device" in error.detail


def test_a_socket_in_place_of_a_file_is_refused(
    site: Site, medium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = blob_of(medium, SHARD)
    blob.unlink()
    monkeypatch.chdir(blob.parent)  # a socket's path may have 107 characters
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(blob.name[:60])
        Path(blob.name[:60]).rename(blob.name)

        error = refused(site, medium, ContentMismatch)

    assert "socket" in error.detail
    assert tmp_path.exists()


def test_a_link_to_a_secret_of_the_node_gives_nothing_away(site: Site, medium: Path, tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_bytes(tree()[SHARD])  # even with the very bytes that are signed
    blob = blob_of(medium, SHARD)
    blob.unlink()
    blob.symlink_to(secret)

    error = refused(site, medium, ContentMismatch)

    assert "symbolic link" in error.detail


def test_links_in_a_circle_are_refused(site: Site, medium: Path) -> None:
    for name in (METADATA, BLOBS):
        folder = medium / name
        folder.rename(medium / f"{name}-elsewhere")
        folder.symlink_to(name)

    refused(site, medium, MediaMissing)


def test_more_names_than_a_release_can_have_are_refused(
    site: Site, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MAX_ENTRIES", 5)

    error = refused(site, medium, ContentMismatch)

    assert "more than 5 names" in error.detail


@pytest.mark.parametrize("name", ["caf\u00e9".encode(), b"\xff\xfe", b"a\nb", b"-rf", b" ", b"COM1"])
def test_names_made_to_confuse_are_refused_and_told_plainly(site: Site, medium: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(medium / BLOBS) + b"/" + name)).touch()

    error = refused(site, medium, ContentMismatch)

    assert error.detail.isascii()
    assert "\n" not in error.detail
    error.detail.encode()  # a person's terminal and the journal take it


def test_a_second_spelling_of_a_blob_is_a_name_that_nobody_signed(site: Site, medium: Path) -> None:
    blob = blob_of(medium, SHARD)
    blob.with_name(blob.name.upper()).write_bytes(blob.read_bytes())

    refused(site, medium, ContentMismatch)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"[" * 50_000_000,
        lambda _: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        lambda release: canonical(release).replace(b'"epoch":1', b'"epoch":' + b"9" * 5000, 1),
        lambda release: canonical(release).replace(b'"epoch":1', b'"epoch":1e400', 1),
        lambda release: canonical(release).replace(b'"name":"small"', b'"name":"\\ud800"', 1),
        lambda release: canonical(replace(release, files=tuple(huge(release.files)))),
        lambda release: b"\xef\xbb\xbf" + canonical(release),
        lambda release: canonical(release).replace(b":", b": ", 1),
    ],
    ids=["deep list", "deep objects", "long number", "infinity", "surrogate", "huge file", "byte order", "spaces"],
)
def test_an_absurd_manifest_is_refused_even_when_signed(
    site: Site, medium: Path, keyring: Keyring, spoil: Callable[..., bytes]
) -> None:
    resign(medium, spoil(peek(open_bundle(medium))), keyring)

    refused(site, medium, ReleaseInvalid)


def huge(files: Iterable[FileEntry]) -> Iterable[FileEntry]:
    for entry in files:
        yield replace(entry, size_bytes=MAX_FILE_BYTES + 1) if entry.path == SHARD else entry


@pytest.mark.parametrize(
    "content",
    [(1 << 62).to_bytes(8, "little") + b"{}", (3000).to_bytes(8, "little") + b"[" * 3000, safetensors_bytes(b"x")[:-1]],
)
def test_an_absurd_header_of_weights_makes_no_bundle(tmp_path: Path, keyring: Keyring, content: bytes) -> None:
    with pytest.raises(ReleaseInvalid, match=SHARD):
        write_bundle(tmp_path / "absurd", keyring, files=tree() | {SHARD: content})

    assert not (tmp_path / "absurd").exists()


Change = Callable[[Path], None]


def swap(path: Path) -> None:
    """Another file under the same name, as a malicious device can give at the second look."""
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change",
    [swap, link, fifo, Path.unlink, lambda path: os.truncate(path, 10), lambda path: flip_bit(path, 700)],
    ids=["swapped", "linked", "fifo", "gone", "cut", "flipped"],
)
def test_a_file_that_changes_between_the_comparison_and_the_reading_is_refused(
    site: Site, medium: Path, change: Change
) -> None:
    bundle = open_bundle(medium)
    verified = site.trust.check(bundle, now=NOW)
    blob = blob_of(medium, SHARD)

    class TwoFaced(MediumBlobs):
        """A medium that is good until it was compared."""

        def compare(self, files: Iterable[FileEntry]) -> blobs.Diff:
            found = super().compare(files)
            assert not found
            change(blob)
            return found

    with pytest.raises(ContentMismatch) as caught:
        import_release(TwoFaced(bundle), verified, **site.places())

    assert site.slots() == []
    assert site.policy is None
    assert verified.release.file(SHARD).sha256 not in {path.name for path in site.stored()}
    assert caught.value.remedy


def test_a_medium_that_gives_other_bytes_at_the_second_reading_serves_what_was_hashed(site: Site, medium: Path) -> None:
    slot = site.import_(medium)

    swap(blob_of(medium, SHARD))  # after the import nothing reads the medium again

    assert (slot / SHARD).read_bytes() == tree()[SHARD]
    assert isinstance(open_bundle(medium), Bundle)
