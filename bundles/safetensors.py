"""The header of a safetensors file, read with more distrust than the reference library has.

The library accepts duplicate keys (the last one wins), headers of 100 MB and names like paths;
here the header is at most 32 MiB, has no duplicate keys, and its tensors fill the rest of the file
exactly, without gap or overlap. Format: huggingface/safetensors, README ("Format").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bundles.codec import CodecError, parse_json
from bundles.errors import ReleaseInvalid

MAX_HEADER_BYTES = 32 * 1024 * 1024
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 32
LENGTH_BYTES = 8

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor of the header: name, type, shape, and where its bytes lie after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(name: str, size_bytes: int, read: Callable[[int, int], bytes]) -> tuple[TensorEntry, ...]:
    """Read and check the header of the file `name`; `read(offset, length)` gives its bytes.

    Returns the tensors in file order. Raises ReleaseInvalid with the rule that is broken.
    """
    try:
        return _read_header(size_bytes, read)
    except CodecError as error:
        raise ReleaseInvalid(
            detail=f"{name} is not a sound safetensors file: {error}",
            remedy="Do not import this bundle. The publisher must take the file from its source again and sign anew.",
        ) from error


def _read_header(size_bytes: int, read: Callable[[int, int], bytes]) -> tuple[TensorEntry, ...]:
    if size_bytes < LENGTH_BYTES:
        raise CodecError(f"it has {size_bytes} bytes, fewer than its length field")
    length = int.from_bytes(read(0, LENGTH_BYTES), "little")
    if length > min(MAX_HEADER_BYTES, size_bytes - LENGTH_BYTES):
        raise CodecError(
            f"its header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} within the file are allowed"
        )
    header = parse_json(read(LENGTH_BYTES, length))
    if not isinstance(header, dict):
        raise CodecError("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CodecError("its __metadata__ is not a table of text")
    if len(header) > MAX_TENSORS:
        raise CodecError(f"it names {len(header):,} tensors; at most {MAX_TENSORS:,} are allowed")
    tensors = sorted(
        (_entry(name, value) for name, value in header.items()), key=lambda entry: (entry.begin, entry.end)
    )
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            raise CodecError(f"tensor {tensor.name[:80]!a} begins at {tensor.begin:,}; the one before ends at {end:,}")
        end = tensor.end
    if LENGTH_BYTES + length + end != size_bytes:
        raise CodecError(f"header and tensors take {LENGTH_BYTES + length + end:,} bytes; the file has {size_bytes:,}")
    return tuple(tensors)


def _entry(name: str, value: object) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CodecError(f"tensor {name[:80]!a} does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CodecError(f"tensor {name[:80]!a} has the unknown type {str(dtype)[:80]!a}")
    if isinstance(shape, list) and len(shape) > MAX_DIMENSIONS:
        raise CodecError(f"tensor {name[:80]!a} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are allowed")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:  # noqa: PLR2004  begin and end
        raise CodecError(f"tensor {name[:80]!a} has a shape or offsets that are not whole numbers")
    begin, end = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        raise CodecError(f"tensor {name[:80]!a} takes {end - begin:,} bytes; its type and shape need {bits / 8:,.1f}")
    return TensorEntry(name=name, dtype=dtype, shape=tuple(shape), begin=begin, end=end)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)
