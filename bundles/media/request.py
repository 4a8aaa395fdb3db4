"""A repair request: which leaves of a release are wanted again, in one line that also fits a QR code.

    LEEWARD-REPAIR/1 <digest of release.json> <file>:<leaf>[-<leaf>][+<leaf>...] ... <check>

Files are numbered from 0 in the order of the plan, leaves from 0 in their file. All characters are of
the QR alphanumeric set, so a request of a few hundred leaves is one code. `check` is the start of the
SHA-256 of what stands before it. Nothing in a request is trusted: it only chooses what is copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from bundles.digest import sha256_hex
from bundles.errors import MediaMissing, RepairRequestInvalid
from bundles.media.kept import Kept
from bundles.media.opening import Media
from bundles.media.plan import Leaf, unique_files
from bundles.media.reader import MediaBlobs
from bundles.release import Release
from bundles.transfer import IsCanceled, Meter, Progress, never, silent

NAME = "LEEWARD-REPAIR/1"
MAX_REQUEST_CHARACTERS = 1_000_000
MAX_QR_CHARACTERS = 4296
"""What the largest QR code holds in its alphanumeric form (ISO/IEC 18004, version 40-L)."""
_CHECK = 8
_WORD = re.compile(r"([0-9]{1,6}):([0-9+-]+)")
_RUN = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_REMEDY = "Bring the request again as it was written on the node; both sides must speak of the same bundle."


def request_text(leaves: Iterable[Leaf], release: Release, digest: str) -> str:
    """Return the line for `leaves` of the release whose `release.json` has `digest`."""
    numbers = {entry.sha256: number for number, entry in enumerate(unique_files(release.files))}
    wanted: dict[int, set[int]] = {}
    for leaf in leaves:
        wanted.setdefault(numbers[leaf.entry.sha256], set()).add(leaf.number)
    words = [f"{number}:{'+'.join(_runs(sorted(found)))}" for number, found in sorted(wanted.items())]
    line = " ".join((NAME, digest.upper(), *words))
    return f"{line} {_check(line)}"


def read_request(path: Path) -> str:
    """Return the text of a request's file. Raises RepairRequestInvalid, MediaMissing."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_REQUEST_CHARACTERS + 1)
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise RepairRequestInvalid(detail=f"{path} is no text", remedy=_REMEDY) from None
    except OSError as error:
        raise MediaMissing(
            detail=f"{path} could not be read: {error.strerror}", remedy="Name the file that holds the request."
        ) from error


def requested_leaves(text: str, release: Release, digest: str) -> tuple[Leaf, ...]:
    """Read a request for this release. Raises RepairRequestInvalid."""
    line, _, check = text.strip().rpartition(" ")
    words = line.split(" ")
    if len(text) > MAX_REQUEST_CHARACTERS or words[0] != NAME or check != _check(line):
        raise RepairRequestInvalid(detail=f"it is not an undamaged line that begins with {NAME}", remedy=_REMEDY)
    if len(words) < 3 or words[1] != digest.upper():  # noqa: PLR2004  name, digest and at least one file
        raise RepairRequestInvalid(
            detail=f"it is about the release {words[1][:16].lower() if len(words) > 1 else '?'}; "
            f"this bundle is {digest[:16]}",
            remedy=_REMEDY,
        )
    files = unique_files(release.files)
    found: dict[tuple[str, int], Leaf] = {}
    for word in words[2:]:
        match = _WORD.fullmatch(word)
        if not match or int(match[1]) >= len(files):
            raise RepairRequestInvalid(detail=f"{word[:40]!a} names no file of this bundle", remedy=_REMEDY)
        entry = files[int(match[1])]
        for number in _numbers(match[2], len(entry.leaves)):
            leaf = Leaf(entry=entry, number=number)
            found[leaf.key] = leaf
    return tuple(found.values())


def leaves_to_request(
    media: Media,
    release: Release,
    *,
    kept: Kept | None = None,
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
) -> tuple[Leaf, ...]:
    """Read the media and return the leaves that are wrong or not there, and that nothing here can mend.

    What the node has kept is not read from the media again. Leaves of volumes that are not here are
    left out: they are to come, not damaged. Raises MediaMissing, ContentMismatch, Canceled.
    """
    blobs = MediaBlobs(media.volumes, release.files, kept=kept)
    leaves = [
        Leaf(entry=entry, number=number) for entry in unique_files(release.files) for number in range(len(entry.leaves))
    ]
    meter = Meter(total=sum(leaf.size_bytes for leaf in leaves), progress=progress, is_canceled=is_canceled)
    wanted = []
    for leaf in leaves:
        meter.check()
        at_home = blobs.has_itself(leaf) or not blobs.outlook.is_to_come(leaf)
        if at_home and blobs.sound(leaf) is None and not _is_mended(blobs, leaf):
            wanted.append(leaf)
        meter.add(leaf.entry.path, leaf.size_bytes)
    return tuple(wanted)


def _is_mended(blobs: MediaBlobs, leaf: Leaf) -> bool:
    view = memoryview(bytearray(leaf.size_bytes))
    return any(source(view) and sha256_hex(view) == leaf.sha256 for source in blobs.mended(leaf))


def _runs(numbers: list[int]) -> Iterator[str]:
    for _, group in groupby(enumerate(numbers), lambda item: item[1] - item[0]):
        run = [number for _, number in group]
        yield str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"


def _numbers(text: str, count: int) -> Iterator[int]:
    for run in text.split("+"):
        match = _RUN.fullmatch(run)
        first = int(match[1]) if match else 0
        last = int(match[2] or match[1]) if match else -1
        if not first <= last < count:
            raise RepairRequestInvalid(detail=f"{run[:40]!a} names no leaves of a file with {count}", remedy=_REMEDY)
        yield from range(first, last + 1)


def _check(line: str) -> str:
    return sha256_hex(line.encode())[:_CHECK].upper()
