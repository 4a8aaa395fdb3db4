"""Search long for bytes that a parser answers otherwise than with a refusal; run by hand.

    python -m tests.fuzz.search [--seconds 60] [--seed 1] [TARGET ...]     mutations of good bytes
    python -m tests.fuzz.search --atheris TARGET [-- -max_total_time=600]  guided by coverage

Set `TMPDIR=/dev/shm` for the `tuf-` targets, which write small files durably at every try. What is
found is written to `tests/fuzz/corpus/TARGET/` under its digest and is tested from then on.
The second way needs `atheris` (`pip install atheris`), which guides itself by the branches taken.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from types import FunctionType, ModuleType

from bundles.digest import sha256_hex
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Target, survives, targets

CORPUS = Path(__file__).parent / "corpus"
POOL = 200
"""Spoiled bytes that are spoiled further, for each target."""


def search(name: str, target: Target, *, seconds: float, seed: int) -> tuple[int, int]:
    """Search for a while; returns how many bytes were tried and how many were found."""
    chance = Random(f"{seed} {name}")  # noqa: S311  reproducible input, no secret
    pool, tried, found = list(target.seeds), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = mutated(chance.choice(pool), chance)
        tried += 1
        try:
            survives(target, content)
        except Exception:  # noqa: BLE001  whatever comes is the finding
            found += 1
            keep(name, content)
            traceback.print_exc()
        if len(pool) < POOL and len(content) < 20_000:
            pool.append(content)
    return tried, found


def keep(name: str, content: bytes) -> None:
    """Write a finding where the tests look."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sha256_hex(content)[:16]).write_bytes(content)


def guided(name: str, arguments: list[str]) -> None:
    """Let atheris search; it ends the process at its first finding, after writing it down."""
    atheris = importlib.import_module("atheris")
    target = targets()[name]

    def one(content: bytes) -> None:
        try:
            survives(target, content)
        except Exception:
            keep(name, content)
            raise

    for module in [module for key, module in sys.modules.items() if key.startswith("bundles.")]:
        for function in _functions(module):
            atheris.instrument_func(function)
    with tempfile.TemporaryDirectory(prefix="leeward-fuzz-seeds-") as seeds:
        for number, seed in enumerate(target.seeds):
            (Path(seeds) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *arguments, seeds], one)
        atheris.Fuzz()


def _functions(module: ModuleType) -> list[FunctionType]:
    """Return the functions of a module, and those of its classes."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    inner = [value for kind in own if isinstance(kind, type) for value in vars(kind).values()]
    return [value for value in (*own, *inner) if isinstance(value, FunctionType)]


def main() -> None:
    """Search, and end with status 1 where something was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="TARGET", help=", ".join(targets()))
    options.add_argument("--seconds", type=float, default=60, help="for each target (default 60)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--atheris", action="store_true")
    chosen, rest = options.parse_known_args()
    names = [name for name in chosen.names if name in targets()] or list(targets())
    if chosen.atheris:
        guided(names[0], [argument for argument in (*chosen.names[1:], *rest) if argument.startswith("-")])
        return
    findings = 0
    for name in names:
        tried, found = search(name, targets()[name], seconds=chosen.seconds, seed=chosen.seed)
        findings += found
        sys.stdout.write(f"{name:<16} {tried:>9,} tried {found:>4} found\n")
        sys.stdout.flush()
    raise SystemExit(bool(findings))


if __name__ == "__main__":
    main()
