"""Import from what is here, be it a bundle, a delta or volumes, and say exactly what is still to come.

The import itself is `bundles.verify.import_release`. Here it reads from all media at once and from
what the node has kept, takes all that is good even where some of it is not, and turns what could
not be had into one message: the volumes to put in next, or the leaves to ask for again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bundles.blobs import Corrupt, Diff
from bundles.delta.rebuild import open_delta
from bundles.errors import ContentMismatch, VolumesMissing
from bundles.media.kept import Kept
from bundles.media.opening import Media
from bundles.media.plan import Leaf
from bundles.media.reader import MediaBlobs
from bundles.store import Store
from bundles.transfer import IsCanceled, Progress, never, silent
from bundles.trust import Verified
from bundles.verify import import_release


def import_media(
    media: Media,
    verified: Verified,
    *,
    store: Path,
    slots: Path,
    staging: Path,
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
) -> Path:
    """Import a checked release from opened media; parameters, result and errors as `import_release`.

    Raises VolumesMissing with every volume that is still to come, and ContentMismatch with every
    leaf that is damaged on all media; in both cases after everything else was taken and kept.
    """
    take = partial(
        import_release,
        verified=verified,
        store=store,
        slots=slots,
        staging=staging,
        progress=progress,
        is_canceled=is_canceled,
    )
    delta = open_delta(media.bundle, store) if media.is_plain else None
    if delta is not None:
        return take(delta)
    kept = Kept(store=Store(store / "sha256"), staging=staging)
    blobs = MediaBlobs(media.volumes, verified.release.files, kept=kept, goes_on=True)
    try:
        return take(blobs)
    except VolumesMissing as error:
        lacking = blobs.lacking(verified.release.files)
        if any(blobs.outlook.may_come(leaf) for leaf in lacking):
            raise blobs.outlook.missing(lacking) from error
        raise ContentMismatch(
            detail=f"{difference(lacking)}. All else was verified and is kept",
            remedy="Bring another copy of the medium, or make a repair request with `leeward bundle repair-request` "
            "and ask the publisher for a repair volume; ask how this medium travelled.",
        ) from error


def difference(leaves: tuple[Leaf, ...]) -> Diff:
    """Return leaves that cannot be had as a difference to the signed list."""
    numbers: dict[str, list[int]] = {}
    for leaf in leaves:
        numbers.setdefault(leaf.entry.path, []).append(leaf.number)
    corrupt = tuple(Corrupt(path=path, leaves=tuple(found)) for path, found in numbers.items())
    return Diff(missing=(), extra=(), corrupt=corrupt)
