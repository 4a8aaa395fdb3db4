"""How fast parity is made and a lost cell found, against SHA-256 of the same bytes and against zfec if it is here.

Run by hand: `.venv/bin/python -m tests.bench.parity_bench`. Both sides run in turns in one process;
CPU seconds, the best of several rounds. zfec is under the GPL and no part of Leeward; install it
into a throw-away environment to compare.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping

from bundles.media.parity import Combination, coefficient, recipe
from bundles.release import LEAF_BYTES

ROUNDS = 5
SHAPES = ((5, 2), (16, 2))


def main() -> None:
    """Measure and print ratios."""
    sys.stdout.write(f"cells of {LEAF_BYTES:,} bytes, best of {ROUNDS} rounds, GB of data cells per CPU second\n")
    for data, parity in SHAPES:
        _measure(data, parity)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(f"peak memory {peak / 1e6:,.0f} MB, of which the cells above take {16 * LEAF_BYTES / 1e6:,.0f}\n")


def _measure(data: int, parity: int) -> None:
    cells = [os.urandom(LEAF_BYTES) for _ in range(data)]
    made = [_sum({number: coefficient(row, number) for number in range(data)}, cells, []) for row in range(parity)]
    factors = recipe(0, [1], [0, 1], list(range(2, data)))
    if _sum(factors, cells, made)[:LEAF_BYTES] != cells[0]:
        raise SystemExit("a lost cell was not found again")
    works: dict[str, Callable[[], object]] = {
        "SHA-256": lambda: [hashlib.sha256(cell).digest() for cell in cells],
        f"make {parity} parity cells": lambda: [
            _sum({number: coefficient(row, number) for number in range(data)}, cells, []) for row in range(parity)
        ],
        "find one of two lost cells": lambda: _sum(factors, cells, made),
    }
    works |= _zfec(cells, parity)
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            begun = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - begun)
    for name, seconds in best.items():
        rate = data * LEAF_BYTES / seconds / 1e9
        sys.stdout.write(f"{data:3} + {parity}  {name:<30} {rate:6.2f}   {best['SHA-256'] / seconds:5.2f} of SHA-256\n")


def _sum(factors: Mapping[int, int], cells: list[bytes], parity: list[bytes]) -> bytes:
    total = Combination(LEAF_BYTES)
    for number, factor in factors.items():
        total.add(factor, cells[number] if number >= 0 else parity[-1 - number])
    return total.content()


def _zfec(cells: list[bytes], parity: int) -> dict[str, Callable[[], object]]:
    try:
        import zfec  # noqa: PLC0415  only where someone has put it
    except ImportError:
        return {}
    encoder = zfec.Encoder(len(cells), len(cells) + parity)
    wanted = tuple(range(len(cells), len(cells) + parity))
    return {f"zfec: make {parity} parity cells": lambda: encoder.encode(cells, wanted)}


if __name__ == "__main__":
    main()
