"""Instructions are checked before a byte moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bundles.delta import instructions
from bundles.delta.instructions import Base, Delta, FilePlan, Segment, delta_from_bytes, delta_to_bytes
from bundles.errors import ContentMismatch
from bundles.release import MAX_FILE_BYTES

BASE = {"path": "weights/target/a.safetensors", "size_bytes": 100, "sha256": "a" * 64}
GOOD: dict[str, Any] = {
    "schema": "leeward-delta/1",
    "bases": [BASE],
    "files": [
        {
            "sha256": "b" * 64,
            "segments": [
                {"base": None, "offset": 0, "length": 10},
                {"base": 0, "offset": 90, "length": 10},
                {"base": None, "offset": 10, "length": 5},
            ],
        }
    ],
}


def test_sound_instructions_are_read_and_written_alike() -> None:
    delta = delta_from_bytes(json.dumps(GOOD).encode())

    assert delta.plans["b" * 64].size_bytes == 25
    assert delta.plans["b" * 64].carried_bytes == 15
    assert delta_from_bytes(delta_to_bytes(delta)) == delta


def changed(path: str, value: object) -> bytes:
    """Return the good instructions with another value at a path like files/0/sha256."""
    copy: Any = json.loads(json.dumps(GOOD))
    *way, last = path.split("/")
    place = copy
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = value
    return json.dumps(copy).encode()


def segment(base: int | None, offset: int, length: int) -> Mapping[str, object]:
    return {"base": base, "offset": offset, "length": length}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "strict JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be an object"),
        (changed("schema", "leeward-delta/2"), "its schema"),
        (changed("extra", 1), "unknown fields"),
        (changed("bases/0/sha256", "../../../etc/passwd"), "no sound digest"),
        (changed("bases/0/sha256", "A" * 64), "no sound digest"),
        (changed("bases/0/size_bytes", -1), "no sound digest and size"),
        (changed("bases/0/size_bytes", MAX_FILE_BYTES + 1), "no sound digest and size"),
        (changed("bases/0/path", "../x"), "path"),
        (changed("bases/0/path", "\u202e"), "path"),
        (changed("files/0/sha256", "b" * 63), "not named by"),
        (changed("files", [GOOD["files"][0]] * 2), "two plans"),
        (changed("files/0/segments/1", segment(1, 0, 1)), "builds on base 1"),
        (changed("files/0/segments/1", segment(-1, 0, 1)), "builds on base -1"),
        (changed("files/0/segments/1", segment(0, 91, 10)), "behind the end"),
        (changed("files/0/segments/1", segment(0, 1 << 62, 10)), "behind the end"),
        (changed("files/0/segments/1", segment(0, -1, 10)), "from -1"),
        (changed("files/0/segments/1", segment(0, 0, 0)), "has 0 bytes"),
        (changed("files/0/segments/1", segment(0, 0, -5)), "has -5 bytes"),
        (changed("files/0/segments/0", segment(None, 1, 10)), "out of order"),
        (changed("files/0/segments/2", segment(None, 0, 5)), "out of order"),
        (changed("files/0/segments/0", segment(None, 0, MAX_FILE_BYTES + 1)), "bytes from 0"),
        (changed("files/0/segments", [segment(None, 0, 1 << 42), segment(None, 1 << 42, 1)]), "adds up to"),
        (changed("files/0/segments/0/length", "5"), "whole number"),
        (changed("files/0/segments/0/length", 1.5), "whole number"),
    ],
)
def test_instructions_that_break_a_rule_are_refused_with_it(content: bytes, told: str) -> None:
    with pytest.raises(ContentMismatch, match=told) as caught:
        delta_from_bytes(content)

    assert "leeward bundle delta" in caught.value.remedy


@pytest.mark.parametrize(
    ("limit", "make"),
    [
        ("MAX_DELTA_BYTES", lambda: delta_from_bytes(json.dumps(GOOD).encode())),
        ("MAX_SEGMENTS", lambda: delta_from_bytes(json.dumps(GOOD).encode())),
        ("MAX_FILES", lambda: delta_from_bytes(json.dumps(GOOD).encode())),
    ],
)
def test_absurd_instructions_are_refused_by_their_size(
    monkeypatch: pytest.MonkeyPatch, limit: str, make: Callable[[], Delta]
) -> None:
    monkeypatch.setattr(instructions, limit, 0)

    with pytest.raises(ContentMismatch):
        make()


def test_a_writer_cannot_make_instructions_that_a_reader_refuses() -> None:
    base = Base(path="a", size_bytes=1, sha256="a" * 64)
    plan = FilePlan(sha256="b" * 64, segments=(Segment(base=0, offset=0, length=2),))

    with pytest.raises(ValueError, match="behind the end"):
        Delta(schema=instructions.SCHEMA, bases=(base,), files=(plan,))
