"""What is fuzzed: every place where bytes that nobody vouched for are read first.

A target takes bytes and either accepts them or raises a LeewardError; anything else is a finding.
What it accepts it also checks: accepted bytes must be safe and mean one thing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundles import codec, pair
from bundles.delta.blocks import from_blocks, to_blocks
from bundles.delta.instructions import SCHEMA as DELTA
from bundles.delta.instructions import Base, Delta, FilePlan, Segment, delta_from_bytes, delta_to_bytes
from bundles.delta.inventory import SCHEMA as INVENTORY
from bundles.delta.inventory import Chunk, HeldFile, HeldRelease, Inventory, read_inventory, sign_inventory
from bundles.digest import sha256_hex
from bundles.errors import LeewardError, PairMismatch
from bundles.keys import Keyring
from bundles.layout import METADATA, open_bundle
from bundles.media.header import Held, VolumeHeader, VolumeKind, header_from_bytes, header_to_bytes
from bundles.recipe import parse_recipe
from bundles.release import FileEntry, Release, release_from_bytes, release_to_bytes
from bundles.safetensors import read_header
from bundles.trust import TrustStore
from tests.support.small_bundles import NOW, params, safetensors_bytes, write_bundle

RECIPES = Path(__file__).resolve().parents[2] / "bundles" / "recipes"


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of hostile bytes, and good bytes to begin with."""

    read: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Medium:
    """A small bundle whose metadata can be exchanged, and a site that trusts its publisher."""

    folder: Path
    site: Path
    release: Release
    keyring: Keyring

    def check_with(self, name: str, content: bytes) -> None:
        """Check the medium with another file of metadata; the site's state must stay as it was."""
        place = self.folder / METADATA / name
        good = place.read_bytes()
        place.write_bytes(content)
        try:
            TrustStore(self.site).check(open_bundle(self.folder), now=NOW)
        finally:
            place.write_bytes(good)
            assert TrustStore(self.site).policy is None


@functools.cache
def medium() -> Medium:
    """Make the medium; it stays until the process ends."""
    scratch = tempfile.TemporaryDirectory(prefix="leeward-fuzz-")
    _KEPT.append(scratch)
    folder = Path(scratch.name)
    keyring = Keyring.create(folder / "keys", now=NOW)
    report = write_bundle(folder / "medium", keyring)
    TrustStore(folder / "trust").anchor(keyring.roots()[0], keyring.fingerprint)
    return Medium(report.folder, folder / "trust", report.release, keyring)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def read_release(content: bytes) -> None:
    """`release.json`: what is accepted has one form, and no path leaves its folder."""
    release = release_from_bytes(content)
    assert release_to_bytes(release) == content
    assert not any(".." in entry.path.split("/") or entry.path.startswith("/") for entry in release.files)


def read_safetensors(content: bytes) -> None:
    """A header: what is accepted fills its file exactly."""
    tensors = read_header("w", len(content), lambda offset, length: content[offset : offset + length])
    assert all(0 <= tensor.begin <= tensor.end <= len(content) for tensor in tensors)


def read_params(content: bytes) -> None:
    """`params.json`, as either half of a pair."""
    entries = tuple(
        FileEntry(path=path, size_bytes=1, sha256="0" * 64, leaves=("0" * 64,))
        for path in (
            "weights/draft/consolidated.safetensors",
            "weights/target/consolidated.safetensors",
            "weights/target/tekken.json",
        )
    )
    locked = pair.lock(entries, target_params=content, draft_params=content)
    assert locked.hidden_size > 0
    with contextlib.suppress(PairMismatch):
        pair.lock(entries, target_params=params(), draft_params=content)


def read_delta(content: bytes) -> None:
    """Instructions of a delta: no segment lies outside its base."""
    delta = delta_from_bytes(content)
    for plan in delta.files:
        for segment in plan.segments:
            if segment.base is not None:
                assert 0 <= segment.offset < segment.offset + segment.length <= delta.bases[segment.base].size_bytes


def read_inventory_file(content: bytes) -> None:
    """An inventory, with and without a look at its signature."""
    unchecked = read_inventory(content).inventory
    assert read_inventory(content, root=medium().keyring.root).inventory == unchecked


def read_blocks(content: bytes) -> None:
    """Lines of QR codes."""
    from_blocks(content.decode("utf-8", errors="replace"))


def read_volume(content: bytes) -> None:
    """The header of a volume; whoever writes one can also write its digest."""
    try:
        plain = codec.parse_json(content)
        if isinstance(plain, dict) and "volume" in plain:
            content = codec.canonical_json(plain | {"sha256": sha256_hex(codec.canonical_json(plain["volume"]))})
    except ValueError:  # no JSON, or text that has no UTF-8
        pass
    assert header_to_bytes(header_from_bytes(content)) == content


def read_recipe(content: bytes) -> None:
    """A recipe."""
    parse_recipe(content, Path("recipe.toml"))


def _blank_header() -> VolumeHeader:
    held = (Held(name="7" * 64 + ".p000", size_bytes=5),)
    return VolumeHeader(release="8" * 64, kind=VolumeKind.DATA, number=1, data=3, parity=2, holds=held)


def _blank_inventory() -> Inventory:
    chunk = Chunk(offset=0, length=200, sha256="2" * 64)
    return Inventory(
        schema=INVENTORY,
        node="n1",
        created_at=NOW,
        releases=(HeldRelease(slot="26.11.0-e1", release_sha256="1" * 64),),
        damaged=("3" * 64,),
        files=(HeldFile(path="weights/target/a.safetensors", size_bytes=300, sha256="4" * 64, chunks=(chunk,)),),
    )


def _blank_delta() -> Delta:
    segments = (Segment(base=None, offset=0, length=5), Segment(base=0, offset=1, length=7))
    return Delta(
        schema=DELTA,
        bases=(Base(path="a", size_bytes=9, sha256="5" * 64),),
        files=(FilePlan(sha256="6" * 64, segments=segments),),
    )


@functools.cache
def targets() -> Mapping[str, Target]:
    """Return all targets by name."""
    made = medium()
    inventory = sign_inventory(_blank_inventory(), made.keyring)
    fp8 = {**json.loads(params()), "quantization": {"qformat_weight": "fp8_e4m3"}, "n_heads": 2}
    found = {
        "release": Target(read_release, (release_to_bytes(made.release),)),
        "safetensors": Target(read_safetensors, (safetensors_bytes(b"12345678"), safetensors_bytes(b"", "empty"))),
        "params": Target(read_params, (params(), json.dumps(fp8).encode())),
        "delta": Target(read_delta, (delta_to_bytes(_blank_delta()),)),
        "inventory": Target(read_inventory_file, (inventory,)),
        "blocks": Target(read_blocks, ("\n".join(to_blocks(inventory)).encode(),)),
        "volume": Target(read_volume, (header_to_bytes(_blank_header()),)),
        "recipe": Target(read_recipe, ((RECIPES / "tiny.toml").read_bytes(),)),
    }
    for name in ("timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json"):
        good = (made.folder / METADATA / name).read_bytes()
        found[f"tuf-{name.removesuffix('.json')}"] = Target(functools.partial(made.check_with, name), (good,))
    return found


def survives(target: Target, content: bytes) -> None:
    """Give bytes to a target; only a refusal with words may come back."""
    try:
        target.read(content)
    except LeewardError as refusal:
        if not refusal.detail or not refusal.remedy:
            raise AssertionError("a refusal without words") from refusal
