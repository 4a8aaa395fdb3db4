"""What a delta carries, and what it costs, beside its alternatives; all in one run.

    python -m tests.bench.delta_bench [--mib 1024] [--folder /var/tmp]

One shard of 90 tensors changes in eight ways. For each, the bytes that must travel are counted for
Leeward's delta (everything in its folder), for pieces of 16 MiB at fixed places (the leaves of the
two manifests), and for whole files. CPU seconds (user and system, all threads) are those of making
the delta, of importing it, and of importing the full bundle into a store with the same old release.
Needs about five times the size in free space, and removes it.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundles.delta.rebuild import open_delta
from bundles.delta.take import take_inventory
from bundles.delta.write import write_delta
from bundles.keys import Keyring
from bundles.layout import Bundle, open_bundle
from bundles.release import LEAF_BYTES, Release
from bundles.verify import import_release
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site
from tests.unit.delta.weights import safetensors_file

SHARD = "weights/target/consolidated.safetensors"
TENSORS = 90

Tensors = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Change:
    """A way in which a shard changes: what share of its tensors' bytes is new, and the new shard."""

    name: str
    changed: float
    content: bytes


def changes(old: Tensors, noise: random.Random) -> Iterator[Change]:
    """Give the new shards, one after the other."""
    total = sum(map(len, old.values()))
    for count in (1, 2, 5, 9):
        new = old | {name: noise.randbytes(len(old[name])) for name in noise.sample(sorted(old), count)}
        share = sum(len(new[name]) for name in new if new[name] is not old[name]) / total
        yield Change(f"{count} of {TENSORS} tensors", share, safetensors_file(new))
        if count == 5:
            mixed = dict(noise.sample(sorted(new.items()), len(new)))
            yield Change("the same, and reordered", share, safetensors_file(mixed))
    yield Change("header grows by 40 bytes", 0.0, safetensors_file(old, note="x" * 40))
    yield Change("all tensors reordered", 0.0, safetensors_file(dict(reversed(old.items()))))
    yield Change(
        "one byte in every tensor", 1.0, safetensors_file({name: b"!" + content[1:] for name, content in old.items()})
    )


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds that `work` takes."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def released(folder: Path, keyring: Keyring, files: Mapping[str, bytes], epoch: int) -> tuple[Bundle, Release]:
    """Publish a release."""
    release = blank_release(epoch=epoch, version=f"26.11.{epoch}")
    report = write_bundle(folder, keyring, release=release, files=files)
    return open_bundle(report.folder), report.release


def import_(bundle: Bundle, site: Site) -> None:
    """Import a bundle or a delta without adopting its epoch, so that the next one is judged alike."""
    verified = site.trust.check(bundle, now=NOW)
    import_release(open_delta(bundle, site.folder / "store") or bundle, verified, **site.places())


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print one row for each change."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mib", type=int, default=512, help="size of the shard (default 512)")
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    chosen = options.parse_args()
    noise = random.Random(20261124)  # noqa: S311  reproducible input, no secret
    size = chosen.mib * 1024 * 1024 // TENSORS
    old = {f"layers.{number}.w": noise.randbytes(size + number) for number in range(TENSORS)}
    with tempfile.TemporaryDirectory(prefix="leeward-delta-bench-", dir=chosen.folder) as scratch:
        run(Path(scratch), old, noise)


def run(folder: Path, old: Tensors, noise: random.Random) -> None:
    """Measure in `folder`."""
    out = sys.stdout.write
    keyring = Keyring.create(folder / "keys", now=NOW)
    base, before = released(folder / "old", keyring, tree() | {SHARD: safetensors_file(old)}, 1)
    site = Site.trusting(folder / "site", keyring)
    import_(base, site)
    shutil.rmtree(base.path)
    places = {"store": site.folder / "store", "slots": site.folder / "slots"}
    inventory = take_inventory(**places, node="bench", now=NOW)
    inventory_s = cpu(lambda: take_inventory(**places, node="bench", now=NOW))
    shard_bytes = before.file(SHARD).size_bytes
    out(f"one shard, {shard_bytes:,} bytes, {TENSORS} tensors; inventory: {inventory_s:.2f} CPU s\n\n")
    out(f"{'change':<26} {'changed':>8} {'delta':>8} {'16 MiB':>8} {'file':>6} ")
    out(f"  {'make':>6} {'import':>7} {'full':>6}\n")
    known = set(before.file(SHARD).leaves)
    for epoch, change in enumerate(changes(old, noise), start=2):
        bundle, release = released(folder / "new", keyring, tree() | {SHARD: change.content}, epoch)
        entry = release.file(SHARD)
        fixed = sum(
            min(LEAF_BYTES, entry.size_bytes - at * LEAF_BYTES)
            for at, leaf in enumerate(entry.leaves)
            if leaf not in known
        )
        delta = folder / "delta"
        make_s = cpu(lambda bundle=bundle, delta=delta: write_delta(bundle, inventory, out=delta))  # type: ignore[misc]  # defaults bind the loop's values
        import_s = cpu(lambda delta=delta: import_(open_bundle(delta), site))  # type: ignore[misc]  # the same
        rebuilt = site.folder / "slots" / release.slot / SHARD
        if rebuilt.read_bytes() != change.content:
            raise SystemExit(f"{change.name}: rebuilt otherwise")
        (site.folder / "store" / "sha256" / entry.sha256[:2] / entry.sha256).unlink()
        shutil.rmtree(site.folder / "slots" / release.slot)
        full_s = cpu(lambda bundle=bundle: import_(bundle, site))  # type: ignore[misc]  # the same
        (site.folder / "store" / "sha256" / entry.sha256[:2] / entry.sha256).unlink()
        shutil.rmtree(site.folder / "slots" / release.slot)
        travels = size_of(delta) - size_of(delta / "metadata") - size_of(delta / "targets")
        out(
            f"{change.name:<26} {change.changed:>7.2%} {travels / shard_bytes:>8.3%} {fixed / shard_bytes:>8.1%} "
            f"{1:>6.0%}   {make_s:>6.2f} {import_s:>7.2f} {full_s:>6.2f}\n"
        )


if __name__ == "__main__":
    main()
