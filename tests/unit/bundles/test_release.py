from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bundles.digest import EMPTY_SHA256, sha256_hex, tree_digest
from bundles.errors import LeewardError, PairMismatch, ReleaseInvalid
from bundles.layout import open_bundle, parts, peek
from bundles.pair import lock
from bundles.release import (
    LEAF_BYTES,
    MAX_RELEASE_BYTES,
    PART_BYTES,
    BundleKind,
    FileEntry,
    Release,
    release_from_bytes,
    release_to_bytes,
)
from tests.support.small_bundles import params
from tests.unit.bundles.site import canonical


@pytest.fixture
def release(medium: Path) -> Release:
    return peek(open_bundle(medium))


def test_a_release_survives_the_way_to_bytes_and_back(release: Release) -> None:
    content = release_to_bytes(release)

    assert release_from_bytes(content) == release
    assert release_to_bytes(release_from_bytes(content)) == content


def _changed(content: bytes, **fields: object) -> bytes:
    plain = json.loads(content)
    plain.update(fields)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"schema": "leeward-release/2"}, "schema"),
        ({"epoch": "1"}, "epoch must be a whole number"),
        ({"epoch": True}, "epoch must be a whole number"),
        ({"epoch": 1.0}, "epoch must be a whole number"),
        ({"epoch": 0}, "epoch is 0"),
        ({"rollback_floor": 2}, "rollback_floor is 2"),
        ({"name": "a b"}, "name is"),
        ({"version": "../x"}, "version is"),
        ({"kind": "other"}, "kind must be one of release, evidence"),
        ({"created_at": "yesterday"}, "created_at must be a time"),
        ({"files": {}}, "files must be a list"),
        ({"files": [1]}, "files[0] must be an object"),
        ({"surprise": 1}, "unknown fields"),
        ({"engine": None}, "must say its pair, its engine"),
        ({"pair": None}, "must say its pair"),
        ({"kind": "evidence"}, "evidence bundle holds no weights"),
        ({"licenses": [{"applies_to": "x", "path": "no", "spdx_id": "MIT", "threshold_usd_monthly": None}]}, "licence"),
    ],
)
def test_a_release_that_breaks_a_rule_is_refused(release: Release, fields: dict[str, object], told: str) -> None:
    with pytest.raises(ReleaseInvalid) as caught:
        release_from_bytes(_changed(release_to_bytes(release), **fields))

    assert told in caught.value.detail


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda content: content + b"\n",
        lambda content: b" " + content,
        lambda content: content.replace(b":1,", b":1.0,", 1),
        lambda content: content.replace(b'"epoch"', b'"\\u0065poch"', 1),
        lambda content: content.replace(b'"epoch":1', b'"epoch":1,"epoch":1', 1),
        lambda content: content.replace(b'"epoch":1', b'"epoch":NaN', 1),
        lambda content: content.replace(b'"epoch":1', b'"epoch":' + b"9" * 5000, 1),
        lambda content: content.replace(b'"small"', b'"\\ud800"', 1),
        lambda content: content.replace(b"small", b"\xff\xfe", 1),
        lambda content: content[:-1],
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b"[" * 200_000,
        lambda _: b" " * (MAX_RELEASE_BYTES + 1),
    ],
)
def test_bytes_that_are_not_the_one_canonical_form_are_refused(release: Release, spoiled: object) -> None:
    assert callable(spoiled)

    with pytest.raises(ReleaseInvalid):
        release_from_bytes(spoiled(release_to_bytes(release)))


def _with_file(release: Release, **changes: object) -> bytes:
    victim = release.file("playbooks/site.yml")
    changed = replace(victim, **changes)  # type: ignore[arg-type]  # wrong types are the case
    return canonical(replace(release, files=tuple(changed if f is victim else f for f in release.files)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size_bytes": -1}, "has size -1"),
        ({"size_bytes": 1 << 50}, "has size"),
        ({"size_bytes": 2 * LEAF_BYTES}, "lists 1 leaves"),
        ({"leaves": ()}, "lists 0 leaves"),
        ({"leaves": ("0" * 64,)}, "digest is not that of the file"),
        ({"sha256": "A" * 64}, "not 64 lower-case hex digits"),
        ({"path": "zzz"}, "path order"),
    ],
)
def test_a_file_entry_that_contradicts_itself_is_refused(
    release: Release, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(ReleaseInvalid) as caught:
        release_from_bytes(_with_file(release, **changes))

    assert told in caught.value.detail


@pytest.mark.parametrize("field", ["target_digest", "draft_digest"])
def test_a_lock_that_names_other_files_is_refused(release: Release, field: str) -> None:
    assert release.pair is not None
    spoiled = replace(release, pair=replace(release.pair, **{field: "0" * 64}))

    with pytest.raises(PairMismatch):
        release_from_bytes(canonical(spoiled))


def test_the_tree_digest_binds_names_as_the_format_says() -> None:
    assert tree_digest([("b", "2"), ("a", "1")]) == sha256_hex(b"a\x001\nb\x002\n")
    assert tree_digest([("a", "1")]) != tree_digest([("c", "1")])


def test_a_lock_lists_every_field_that_differs() -> None:
    with pytest.raises(PairMismatch) as caught:
        lock((), target_params=params(dim=64, vocab_size=256), draft_params=params(dim=32, vocab_size=128))

    assert "dim: the target has 64, the draft head 32" in caught.value.detail
    assert "vocab_size: the target has 256, the draft head 128" in caught.value.detail


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"dim":1}', b'{"dim":true,"vocab_size":1}', b'{"dim":0,"vocab_size":1}']
)
def test_a_lock_needs_readable_params(content: bytes) -> None:
    with pytest.raises(LeewardError):
        lock((), target_params=params(), draft_params=content)


def test_parts_cover_a_file_and_fit_fat32() -> None:
    entry = FileEntry(path="x", size_bytes=2 * PART_BYTES + 7, sha256="0" * 64, leaves=())

    found = parts(entry)

    assert [part.size_bytes for part in found] == [PART_BYTES, PART_BYTES, 7]
    assert [part.offset for part in found] == [0, PART_BYTES, 2 * PART_BYTES]
    assert found[2].name == "0" * 64 + ".p002"
    assert PART_BYTES < 1 << 32
    assert parts(replace(entry, size_bytes=0)) == ()


def test_evidence_needs_no_engine(release: Release) -> None:
    evidence = replace(
        release,
        kind=BundleKind.EVIDENCE,
        files=release.folder("playbooks/"),
        licenses=(),
        pair=None,
        engine=None,
        requirements=None,
    )

    assert release_from_bytes(release_to_bytes(evidence)) == evidence


def test_no_file_may_take_the_manifests_own_place(release: Release) -> None:
    """It would be signed and sealed, and then no site could make its slot."""
    entry = FileEntry(path="release.json", size_bytes=0, sha256=EMPTY_SHA256, leaves=())
    files = tuple(sorted((*release.files, entry), key=lambda one: one.path))

    with pytest.raises(ReleaseInvalid, match=r"release\.json"):
        release_to_bytes(replace(release, files=files))
