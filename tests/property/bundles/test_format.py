"""Properties of the format: what is accepted is safe, and what is written can be read back."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundles.digest import pieces, sha256_hex, tree_digest
from bundles.errors import LeewardError, ReleaseInvalid
from bundles.manifest import check_path, check_paths
from bundles.release import LEAF_BYTES, FileEntry, KnownAnswer, PairLock, Release, release_from_bytes, release_to_bytes
from bundles.safetensors import read_header
from tests.support.small_bundles import blank_release

SEGMENT = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+~@-]{0,20}", fullmatch=True)
PATH = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["..", ".", "", "a", "CON", "nul.txt", "a.", "é", "\u200b", "~", "\\", "b"]), max_size=6
    ).map("/".join),
    PATH,
)


@given(HOSTILE)
def test_an_accepted_path_stays_below_its_folder(path: str) -> None:
    try:
        check_path(path)
    except ReleaseInvalid:
        return

    assert path.isascii()
    assert posixpath.normpath(path) == path
    assert not path.startswith(("/", ".", "~", "-"))
    assert ".." not in path.split("/")
    assert not re.search(r"[\x00-\x1f\x7f\\:*?\"<>|%]", path)
    assert not any(segment.endswith(".") for segment in path.split("/"))


@given(st.lists(PATH, max_size=8))
def test_accepted_paths_can_all_exist_at_once_on_a_file_system_without_case(paths: list[str]) -> None:
    try:
        check_paths(paths)
    except ReleaseInvalid:
        return

    folded = [path.casefold() for path in paths]
    assert len(set(folded)) == len(paths)
    for path in folded:
        assert not any(other.startswith(f"{path}/") for other in folded)


@st.composite
def entries(draw: st.DrawFn, path: str) -> FileEntry:
    size = draw(st.one_of(st.integers(0, 5), st.integers(0, 4 * LEAF_BYTES)))
    count = pieces(size, LEAF_BYTES)
    salt = draw(st.binary(min_size=8, max_size=8)) + size.to_bytes(8, "big")
    leaves = tuple(sha256_hex(salt + bytes([number])) for number in range(count))
    whole = leaves[0] if count == 1 else sha256_hex(salt if count else b"")
    return FileEntry(path=path, size_bytes=size, sha256=whole, leaves=leaves)


@st.composite
def releases(draw: st.DrawFn) -> Release:
    paths = ["weights/target/params.json", "weights/draft/params.json", "licenses/target/LICENSE"]
    paths += [f"playbooks/f{number}" for number in range(draw(st.integers(0, 5)))]
    files = tuple(draw(entries(path)) for path in sorted(paths))
    epoch = draw(st.integers(1, 1 << 30))
    blank = blank_release(epoch=epoch, rollback_floor=draw(st.integers(1, epoch)))
    assert blank.engine is not None
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    answer = KnownAnswer(prompt=draw(text), expected=draw(text), max_tokens=draw(st.integers(1, 99)))

    def digest(folder: str) -> str:
        return tree_digest((entry.path, entry.sha256) for entry in files if entry.path.startswith(folder))

    pair = PairLock(
        target_digest=digest("weights/target/"), draft_digest=digest("weights/draft/"), vocabulary_size=9, hidden_size=8
    )
    utilization = draw(st.none() | st.floats(0, 1))
    created_at = draw(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))).replace(tzinfo=UTC, microsecond=0)  # noqa: DTZ001  hypothesis takes naive limits
    engine = replace(blank.engine, known_answer=answer, gpu_memory_utilization=utilization)
    return replace(blank, files=files, pair=pair, engine=engine, created_at=created_at)


@given(releases())
@settings(max_examples=60)
def test_a_release_survives_the_way_to_bytes_and_back(release: Release) -> None:
    content = release_to_bytes(release)

    assert release_from_bytes(content) == release
    assert release_to_bytes(release_from_bytes(content)) == content


@given(releases(), st.data())
@settings(max_examples=60)
def test_no_other_bytes_mean_the_same_release(release: Release, data: st.DataObject) -> None:
    content = release_to_bytes(release)
    at = data.draw(st.integers(0, len(content)))
    other = content[:at] + data.draw(st.sampled_from([b" ", b"\n", b"0", b"{", b'"', b","])) + content[at:]

    try:
        found = release_from_bytes(other)
    except LeewardError:
        return

    assert found != release


@given(st.binary(max_size=300))
def test_any_bytes_as_a_release_are_refused_with_words(content: bytes) -> None:
    with pytest.raises(LeewardError) as caught:  # none of them can be a whole release
        release_from_bytes(content)

    assert caught.value.detail
    assert caught.value.remedy


@given(st.binary(max_size=200), st.integers(0, 250))
def test_any_bytes_as_safetensors_are_refused_or_fill_their_file(body: bytes, length: int) -> None:
    content = length.to_bytes(8, "little") + body
    try:
        tensors = read_header("w", len(content), lambda offset, count: content[offset : offset + count])
    except ReleaseInvalid:
        return

    assert sum(tensor.end - tensor.begin for tensor in tensors) + 8 + length == len(content)
