"""An inventory's file as lines of capital letters and digits, each short enough for one QR code.

    LEEWARD-INVENTORY/1 2/3 9F86D081 MFRGGZDFMZTWQ2LK...

Each line has its number, how many there are, and the start of the file's SHA-256, so that lines of
two inventories cannot be mixed. The text is zlib and Base32 (RFC 1950, RFC 4648), which fits the QR
code's alphanumeric mode. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib

from bundles.delta.inventory import MAX_INVENTORY_BYTES
from bundles.digest import pieces, sha256_hex
from bundles.errors import InventoryInvalid

PREFIX = "LEEWARD-INVENTORY/1"
CHARACTERS = 1000
"""Of one line's text: a QR code of version 24 at error correction M, which a cheap camera still reads."""
MAX_BLOCKS = 999

_LINE = re.compile(rf"{PREFIX} ([1-9][0-9]{{0,2}})/([1-9][0-9]{{0,2}}) ([0-9A-F]{{8}}) ([A-Z2-7=]{{1,{CHARACTERS}}})")


def to_blocks(content: bytes) -> tuple[str, ...]:
    """Return the lines of an inventory's file. Raises InventoryInvalid where there would be too many."""
    text = base64.b32encode(zlib.compress(content, 9)).decode("ascii")
    count = pieces(len(text), CHARACTERS)
    if count > MAX_BLOCKS:
        raise _invalid(f"it would need {count:,} codes", "Carry the inventory as a file, or make a receipt.")
    mark = sha256_hex(content)[:8].upper()
    return tuple(
        f"{PREFIX} {number + 1}/{count} {mark} {text[number * CHARACTERS : (number + 1) * CHARACTERS]}"
        for number in range(count)
    )


def from_blocks(lines: str) -> bytes:
    """Put an inventory's file together from its lines, in any order. Raises InventoryInvalid."""
    found: dict[int, str] = {}
    heads: set[tuple[str, str]] = set()
    for line in filter(None, map(str.strip, lines.splitlines())):
        match = _LINE.fullmatch(line)
        if match is None:
            raise _invalid(f"not a line of an inventory: {line[:60]!a}", "Scan that code again.")
        heads.add((match[2], match[3]))
        found[int(match[1])] = match[4]
    if len(heads) != 1:
        raise _invalid(f"lines of {len(heads)} inventories instead of one", "Keep the lines of one inventory together.")
    ((count, mark),) = heads
    lacking = [str(number) for number in range(1, int(count) + 1) if number not in found]
    if lacking or len(found) != int(count):
        raise _invalid(f"of {count} lines these are missing: {', '.join(lacking)}", "Scan the missing codes too.")
    content = _unpacked("".join(found[number] for number in sorted(found)))
    if not sha256_hex(content).upper().startswith(mark):
        raise _invalid("the lines do not have the digest that stands on them", "Scan all codes again.")
    return content


def _unpacked(text: str) -> bytes:
    expander = zlib.decompressobj()
    try:
        content = expander.decompress(base64.b32decode(text), MAX_INVENTORY_BYTES)
    except (zlib.error, binascii.Error) as error:
        raise _invalid(f"the lines do not hold a compressed text: {error}", "Scan all codes again.") from error
    if not expander.eof or expander.unused_data:
        raise _invalid("the compressed text does not end where it should", "Scan all codes again.")
    return content


def _invalid(detail: str, remedy: str) -> InventoryInvalid:
    return InventoryInvalid(detail=detail, remedy=remedy)
