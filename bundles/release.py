"""The release manifest: what one bundle holds, and the rules that bind it.

`release.json` is a TUF target. It names every file with its size, SHA-256 and the SHA-256 of each
16 MiB leaf, binds the draft head to its target, and carries epoch, requirements and licence terms.
Pure: bytes in, values out. There is one byte form of a release (canonical JSON): what does not parse
back to the very same bytes is refused, so two readers can never understand it differently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from bundles import codec
from bundles.digest import EMPTY_SHA256, is_sha256_hex, pieces, tree_digest
from bundles.errors import PairMismatch, ReleaseInvalid
from bundles.manifest import check_paths

SCHEMA = "leeward-release/1"
OWN_NAME = "release.json"
MAX_RELEASE_BYTES = 64 * 1024 * 1024
MAX_FILE_BYTES = 1 << 42
MAX_EPOCH = (1 << 31) - 1
TARGET_FOLDER = "weights/target/"
DRAFT_FOLDER = "weights/draft/"
LEAF_BYTES = 16 * 1024 * 1024
PART_BYTES = 255 * LEAF_BYTES
"""The largest part: 4,278,190,080 bytes, which FAT32 can hold."""
EAGLE_ENGINES = ((0, 21), (1, 0))
"""Versions of vLLM that serve this pair: from 0.21, the first with `mistral_eagle.py`, to below 1.0."""


class BundleKind(StrEnum):
    """What a bundle is for; both kinds are read by the same verifier."""

    RELEASE = "release"
    EVIDENCE = "evidence"


class Device(StrEnum):
    """What the engine's build computes on."""

    CUDA = "cuda"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file: POSIX relative path, size, SHA-256 (hex) of the whole and of each 16 MiB leaf."""

    path: str
    size_bytes: int
    sha256: str
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLock:
    """The binding of draft head to target.

    `target_digest` is the SHA-256 over `path NUL sha256 LF` of every file under `weights/target/`,
    in path order; `draft_digest` the same under `weights/draft/`. `quantization` is the number format
    that both have ("none", or "fp8_e4m3" with its scales), contexts are in tokens.
    """

    target_digest: str
    draft_digest: str
    vocabulary_size: int
    hidden_size: int
    quantization: str | None = None
    tokenizer_sha256: str | None = None
    target_context: int | None = None
    draft_context: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswer:
    """A greedy question whose answer shows that the engine serves the right weights."""

    prompt: str
    expected: str
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRelease:
    """How this release's engine is served. Names are vLLM's, to the letter."""

    kind: str
    version: str
    device: Device
    served_model_name: str
    tensor_parallel_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_cache_dtype: str
    gpu_memory_utilization: float | None
    num_speculative_tokens: int
    draft_max_model_len: int
    known_answer: KnownAnswer
    kv_bytes_per_token: int | None = None
    """KV cache of one token over all GPUs, target and draft head, at `kv_cache_dtype`; `None`: not stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a node must have. Zero GPUs: the engine's build computes on the CPU."""

    gpus: int
    gpu_memory_bytes: int
    minimum_driver: str | None
    memory_bytes: int
    installed_bytes: int
    operating_systems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseEntry:
    """A licence text inside the bundle and what it covers."""

    applies_to: str
    spdx_id: str
    path: str
    threshold_usd_monthly: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Everything that `release.json` says. An evidence bundle has no pair, engine or requirements."""

    kind: BundleKind
    name: str
    version: str
    epoch: int
    rollback_floor: int
    created_at: datetime
    files: tuple[FileEntry, ...]
    licenses: tuple[LicenseEntry, ...]
    pair: PairLock | None
    engine: EngineRelease | None
    requirements: Requirements | None

    @property
    def slot(self) -> str:
        """The name of the slot that this release fills."""
        return f"{self.version}-e{self.epoch}"

    @property
    def size_bytes(self) -> int:
        """The sum of all file sizes."""
        return sum(f.size_bytes for f in self.files)

    def file(self, path: str) -> FileEntry:
        """Return the entry for `path`; raises KeyError where there is none."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise KeyError(path)

    def folder(self, prefix: str) -> tuple[FileEntry, ...]:
        """Return the entries below `prefix`, which ends in a slash."""
        return tuple(entry for entry in self.files if entry.path.startswith(prefix))


def release_to_bytes(release: Release) -> bytes:
    """Return the canonical bytes of `release`; raises what `check_release` raises."""
    check_release(release)
    plain = codec.to_plain(release)
    content = codec.canonical_json({"schema": SCHEMA, **plain})  # type: ignore[dict-item]  # a dataclass becomes a dict
    if len(content) > MAX_RELEASE_BYTES:
        raise _invalid(f"release.json has {len(content):,} bytes; {MAX_RELEASE_BYTES:,} are allowed")
    return content


def release_from_bytes(content: bytes) -> Release:
    """Read `release.json`.

    Raises ReleaseInvalid for anything but the canonical form of a release that follows the rules,
    and PairMismatch where the binding of draft head to target does not hold for the listed files.
    """
    if len(content) > MAX_RELEASE_BYTES:
        raise _invalid(f"release.json has {len(content):,} bytes; {MAX_RELEASE_BYTES:,} are allowed")
    try:
        plain = codec.parse_json(content)
        if not isinstance(plain, dict):
            raise codec.CodecError("it must be an object")
        schema = plain.pop("schema", None)
        if schema != SCHEMA:
            raise codec.CodecError(f"its schema is {schema!r}; this version of Leeward reads {SCHEMA!r}")
        release = codec.from_plain(plain, Release)
        canonical = codec.canonical_json({"schema": SCHEMA, **codec.to_plain(release)})  # type: ignore[dict-item]  # a dataclass becomes a dict
    except ValueError as error:
        raise _invalid(f"release.json: {error}") from error
    if canonical != content:
        raise _invalid("release.json is not in canonical form, so two readers might understand it differently")
    check_release(release)
    return release


def check_release(release: Release) -> None:
    """Check every rule that needs nothing but the release itself.

    Raises ReleaseInvalid with the first broken rule, or PairMismatch.
    """
    _check_identity(release)
    _check_files(release)
    _check_licenses(release)
    if release.kind is BundleKind.EVIDENCE:
        _check_evidence(release)
    else:
        _check_served(release)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def _invalid(detail: str) -> ReleaseInvalid:
    return ReleaseInvalid(
        detail=detail, remedy="The publisher must correct the release and sign it again; do not import this bundle."
    )


def _check_identity(release: Release) -> None:
    for what, value in (("name", release.name), ("version", release.version)):
        if not _NAME.fullmatch(value) or value.endswith("."):
            raise _invalid(
                f"{what} is {value[:80]!a}; it must be [A-Za-z0-9][A-Za-z0-9._+-]{{0,63}} and not end in a dot"
            )
    if not 1 <= release.epoch <= MAX_EPOCH:
        raise _invalid(f"epoch is {release.epoch}; it must lie between 1 and {MAX_EPOCH}")
    if not 1 <= release.rollback_floor <= release.epoch:
        raise _invalid(
            f"rollback_floor is {release.rollback_floor}; it must lie between 1 and the epoch {release.epoch}"
        )
    if release.created_at.utcoffset() != timedelta(0):
        raise _invalid("created_at is not in UTC")


def _check_files(release: Release) -> None:
    check_paths(entry.path for entry in release.files)
    paths = [entry.path for entry in release.files]
    if paths != sorted(paths):
        raise _invalid("the files are not in path order")
    if OWN_NAME in paths:
        raise _invalid(f"a file is called {OWN_NAME}, as the manifest itself is in its slot")
    known: dict[str, FileEntry] = {}
    for entry in release.files:
        _check_file(entry)
        twin = known.setdefault(entry.sha256, entry)
        if (twin.size_bytes, twin.leaves) != (entry.size_bytes, entry.leaves):
            raise _invalid(f"{twin.path} and {entry.path} have one SHA-256 but different sizes or leaves")


def _check_file(entry: FileEntry) -> None:
    if not 0 <= entry.size_bytes <= MAX_FILE_BYTES:
        raise _invalid(f"{entry.path} has size {entry.size_bytes}; it must lie between 0 and {MAX_FILE_BYTES:,}")
    expected = pieces(entry.size_bytes, LEAF_BYTES)
    if len(entry.leaves) != expected:
        raise _invalid(f"{entry.path} lists {len(entry.leaves)} leaves; {entry.size_bytes:,} bytes have {expected}")
    if not is_sha256_hex(entry.sha256) or not all(map(is_sha256_hex, entry.leaves)):
        raise _invalid(f"{entry.path} has a digest that is not 64 lower-case hex digits")
    if len(entry.leaves) == 1 and entry.leaves[0] != entry.sha256:
        raise _invalid(f"{entry.path} has one leaf, but its digest is not that of the file")
    if not entry.leaves and entry.sha256 != EMPTY_SHA256:
        raise _invalid(f"{entry.path} is empty, but its digest is not that of no bytes")


def _check_licenses(release: Release) -> None:
    paths = {entry.path for entry in release.files}
    for entry in release.licenses:
        if entry.path not in paths:
            raise _invalid(f"the licence text {entry.path[:80]!a} is not among the files")


def _check_evidence(release: Release) -> None:
    if release.pair or release.engine or release.requirements or release.folder("weights/"):
        raise _invalid("an evidence bundle holds no weights, pair, engine or requirements")


def _check_served(release: Release) -> None:
    if release.pair is None or release.engine is None or release.requirements is None:
        raise _invalid("a release must say its pair, its engine and its requirements")
    for what, folder, signed in (
        ("target", TARGET_FOLDER, release.pair.target_digest),
        ("draft head", DRAFT_FOLDER, release.pair.draft_digest),
    ):
        files = release.folder(folder)
        if not files:
            raise _invalid(f"there is no {what}: no file is below {folder}")
        found = tree_digest((entry.path, entry.sha256) for entry in files)
        if found != signed:
            raise PairMismatch(
                detail=f"the lock names a {what} with digest {signed[:64]!a}; the files below {folder} have {found}",
                remedy="Do not import this bundle. The publisher must build the release again from a matching pair.",
            )
    _check_engine(release.engine, release.pair)


def _check_engine(engine: EngineRelease, pair: PairLock) -> None:
    """Check that the engine can draft with this pair, and no further than the models reach."""
    for what, wanted, reach in (
        ("max_model_len", engine.max_model_len, pair.target_context),
        ("draft_max_model_len", engine.draft_max_model_len, pair.draft_context),
    ):
        if reach is not None and wanted > reach:
            raise PairMismatch(
                detail=f"{what} is {wanted:,} tokens; the params.json of that model allow {reach:,}",
                remedy=f"The publisher must lower {what} in the recipe and build the release again.",
            )
    if engine.kind == "vllm" and engine.num_speculative_tokens > 0:
        match = re.match(r"(\d{1,6})\.(\d{1,6})", engine.version, re.ASCII)
        low, high = EAGLE_ENGINES
        if match is None or not low <= (int(match[1]), int(match[2])) < high:
            raise PairMismatch(
                detail=f"vLLM {engine.version[:40]!a} does not serve this draft head; versions from {low[0]}.{low[1]} "
                f"to below {high[0]}.{high[1]} do",
                remedy="The publisher must take an engine of that range and build the release again.",
            )
