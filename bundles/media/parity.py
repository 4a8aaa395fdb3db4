"""An erasure code over cells: any `data` of `data + parity` cells give back all others. Pure.

Cauchy Reed-Solomon over GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1 (0x11D), in the bit-matrix form
of Blömer et al. (1995) and Plank and Xu (2006): a cell is cut in eight packets, packet j holds bit j
of every symbol, and multiplying by a constant is a matrix of 8 by 8 of XORs of packets. Python's
integers XOR at memory speed, so this needs no library and runs wherever Leeward runs.

Parity cell p of data cells d is the sum of `coefficient(p, d) · d`. The coefficients are those of a
Cauchy matrix, 1 / (x_p + y_d) with x_p = 255 - p and y_d = d, each column divided by its first
element; they depend on no count, so that parity can be added to a set later. Every square part of
such a matrix can be inverted, hence any lost cells can be found from as many parity cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

MAX_CELLS = 255
"""Data and parity cells together."""
PACKETS = 8
_POLYNOMIAL = 0x11D
_FIELD = 256
_ORDER = 255


def coefficient(parity: int, data: int) -> int:
    """Return the factor of data cell `data` in parity cell `parity`, both counted from 0."""
    return _multiply(_inverse(_cauchy(0, data)), _cauchy(parity, data))


def recipe(lost: int, others: Sequence[int], parity: Sequence[int], kept: Sequence[int]) -> Mapping[int, int]:
    """Return how to make the data cell `lost`: factors of kept data cells (d) and parity cells (-1 - p).

    `others` are the further data cells that are lost, `parity` at least as many parity cells as are
    lost in all, `kept` all data cells that are not. Raises ValueError for too few parity cells.
    """
    unknown = (lost, *others)
    if len(parity) < len(unknown):
        raise ValueError(f"{len(unknown)} cells are lost and {len(parity)} parity cells are there")
    used = parity[: len(unknown)]
    weights = _first_row_of_inverse([[coefficient(p, d) for d in unknown] for p in used])
    factors = {-1 - p: weight for p, weight in zip(used, weights, strict=True)}
    for d in kept:
        total = 0
        for p, weight in zip(used, weights, strict=True):
            total ^= _multiply(weight, coefficient(p, d))
        factors[d] = total
    return factors


def padded(size_bytes: int) -> int:
    """Return the size in bytes of a row's parity cell whose largest data cell has `size_bytes`."""
    return -(-size_bytes // PACKETS) * PACKETS


class Combination:
    """A sum of cells, each times a factor; cells shorter than the row count as filled up with zeros."""

    def __init__(self, size_bytes: int) -> None:
        self._packet_bytes = padded(size_bytes) // PACKETS
        self._sums = [0] * PACKETS

    def add(self, factor: int, cell: memoryview | bytes | bytearray) -> None:
        """Add `factor · cell`."""
        width = self._packet_bytes
        matrix = _bits(factor)
        view = memoryview(cell)
        for column in range(PACKETS):
            packet = int.from_bytes(view[column * width : (column + 1) * width], "little")
            for row in range(PACKETS):
                if matrix[row] >> column & 1:
                    self._sums[row] ^= packet

    def content(self) -> bytes:
        """Return the sum, as long as the row's parity cell."""
        return b"".join(total.to_bytes(self._packet_bytes, "little") for total in self._sums)


def _cauchy(parity: int, data: int) -> int:
    if not (data >= 0 and parity >= 0 and data + parity < _ORDER):
        raise ValueError(f"parity cell {parity} and data cell {data} do not fit into {MAX_CELLS} cells")
    return _inverse((_ORDER - parity) ^ data)


@cache
def _bits(factor: int) -> tuple[int, ...]:
    """Return the matrix of a multiplication: bit j of row i says that packet j goes into packet i."""
    columns = [_multiply(factor, 1 << column) for column in range(PACKETS)]
    return tuple(sum((columns[column] >> row & 1) << column for column in range(PACKETS)) for row in range(PACKETS))


@cache
def _tables() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the powers of the generator 2, and the logarithm of every element but 0."""
    powers, logarithms, value = [], [0] * _FIELD, 1
    for exponent in range(_ORDER):
        powers.append(value)
        logarithms[value] = exponent
        value <<= 1
        if value & _FIELD:
            value ^= _POLYNOMIAL
    return tuple(powers), tuple(logarithms)


def _multiply(one: int, other: int) -> int:
    if not one or not other:
        return 0
    powers, logarithms = _tables()
    return powers[(logarithms[one] + logarithms[other]) % _ORDER]


def _inverse(one: int) -> int:
    powers, logarithms = _tables()
    return powers[-logarithms[one] % _ORDER]


def _first_row_of_inverse(matrix: list[list[int]]) -> list[int]:
    """Return row 0 of the inverse, by Gauss and Jordan; a part of a Cauchy matrix always has one."""
    size = len(matrix)
    rows = [[*row, *(int(at == number) for at in range(size))] for number, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(row for row in range(column, size) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = _inverse(rows[column][column])
        rows[column] = [_multiply(scale, value) for value in rows[column]]
        for row in range(size):
            factor = rows[row][column]
            if row != column and factor:
                rows[row] = [
                    value ^ _multiply(factor, other) for value, other in zip(rows[row], rows[column], strict=True)
                ]
    return rows[0][size:]
