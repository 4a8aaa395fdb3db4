"""Open whatever a person brings: a plain bundle, one or several volumes, a repair volume, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundles.blobs import Blobs, MediumBlobs
from bundles.errors import ContentMismatch, MediaMissing, ReleaseInvalid, SignatureRefused, VolumeForeign
from bundles.layout import RELEASE_SUFFIX, TARGETS, Bundle, open_bundle
from bundles.media.header import read_header
from bundles.media.reader import MediaBlobs, Volume
from bundles.release import Release
from bundles.trust import TrustStore, Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Opened media of one release. Make one with `open_media`."""

    volumes: tuple[Volume, ...]

    @property
    def bundle(self) -> Bundle:
        """The first medium; each carries all metadata."""
        return self.volumes[0].bundle

    @property
    def is_plain(self) -> bool:
        """Whether this is one medium that is none of a set."""
        return len(self.volumes) == 1 and self.volumes[0].header is None

    def blobs(self, release: Release) -> Blobs:
        """Return where the files of the verified `release` lie. Raises MediaMissing, ContentMismatch."""
        return MediumBlobs(self.bundle) if self.is_plain else MediaBlobs(self.volumes, release.files)

    def check(self, trust: TrustStore, *, now: datetime) -> Verified:
        """Check the metadata of the first medium on which it is whole; raises what `TrustStore.check` raises.

        All content is then held against this one manifest, so it does not matter which medium it came from.
        """
        for volume in self.volumes[:-1]:
            try:
                return trust.check(volume.bundle, now=now)
            except (SignatureRefused, ContentMismatch, MediaMissing, ReleaseInvalid):  # rot may look like any of these
                continue
        return trust.check(self.volumes[-1].bundle, now=now)


def open_media(paths: Sequence[Path]) -> Media:
    """Open the media at `paths`; the same one twice does no harm.

    Raises MediaMissing where no bundle is there, VolumeUnfinished, VolumeForeign where two media
    carry different releases, ContentMismatch.
    """
    volumes = tuple(_volume(path) for path in dict.fromkeys(path.resolve() for path in paths))
    if not volumes:
        raise MediaMissing(detail="no medium was named", remedy="Name the folder where the medium is mounted.")
    first = _manifest(volumes[0].bundle)
    for volume in volumes[1:]:
        found = _manifest(volume.bundle)
        if found != first:
            raise VolumeForeign(
                detail=f"{volumes[0].bundle.path} carries release {first[:16]}, "
                f"{volume.bundle.path} carries release {found[:16]}",
                remedy="Give volumes of one set together; the labels tell them apart.",
            )
    return Media(volumes=volumes)


def _volume(path: Path) -> Volume:
    bundle = open_bundle(path)
    try:
        header = read_header(bundle)
    except ContentMismatch:  # its pieces are still worth their digests
        header = None
    if header and header.release != _manifest(bundle):
        header = None
    return Volume(bundle=bundle, header=header)


def _manifest(bundle: Bundle) -> str:
    """Return the digest in the manifest's name, unverified."""
    names = [name for name in bundle.names(TARGETS) if name.endswith(RELEASE_SUFFIX)]
    if len(names) != 1:
        raise ContentMismatch(
            detail=f"{bundle.path}/{TARGETS} holds {len(names)} manifests instead of one",
            remedy="Bring another copy of this volume.",
        )
    return names[0].removesuffix(RELEASE_SUFFIX)
