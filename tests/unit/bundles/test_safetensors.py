from __future__ import annotations

import json

import pytest

from bundles.errors import ReleaseInvalid
from bundles.safetensors import MAX_HEADER_BYTES, TensorEntry, read_header
from tests.support.small_bundles import safetensors_bytes


def read(content: bytes) -> tuple[TensorEntry, ...]:
    return read_header("w.safetensors", len(content), lambda offset, length: content[offset : offset + length])


def made(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(begin: int, end: int, *, dtype: str = "U8", shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_a_sound_file_gives_its_tensors_in_file_order() -> None:
    content = made(
        {"b": tensor(4, 6), "a": tensor(0, 4, dtype="F32", shape=[1]), "__metadata__": {"k": "v"}}, b"123456"
    )

    assert [entry.name for entry in read(content)] == ["a", "b"]
    assert read(safetensors_bytes(b"xyz"))[0].end == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        (1 << 62).to_bytes(8, "little") + b"{}",
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * 100,
        made(b"[]"),
        made(b"{"),
        made(b"[" * 100_000),
        made(b'{"a":' + json.dumps(tensor(0, 1)).encode() + b',"a":' + json.dumps(tensor(0, 1)).encode() + b"}", b"1"),
        made({"a": tensor(0, 2), "b": tensor(1, 3)}, b"123"),
        made({"a": tensor(0, 1), "b": tensor(2, 3)}, b"123"),
        made({"a": tensor(1, 3)}, b"123"),
        made({"a": tensor(0, 3)}, b"1234"),
        made({"a": tensor(0, 3)}, b"12"),
        made({"a": tensor(0, 4, dtype="F32", shape=[2])}, b"1234"),
        made({"a": tensor(0, 3, dtype="PICKLE")}, b"123"),
        made({"a": {**tensor(0, 3), "extra": 1}}, b"123"),
        made({"a": tensor(0, 3, shape=[-3])}, b"123"),
        made({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"1"),
        made({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, b"1"),
        made({"__metadata__": {"k": 1}}),
        made({"a": tensor(0, 1, shape=[1] * 33)}, b"1"),
    ],
)
def test_an_unsound_file_is_refused(content: bytes) -> None:
    with pytest.raises(ReleaseInvalid):
        read(content)
