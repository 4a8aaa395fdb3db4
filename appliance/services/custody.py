"""Custody receipts of this node: what arrived here, signed by the site's own keys.

One folder for each release, named for its slot, holds a chain of receipts (bundles.media.receipts). Receipts
in `receipts/` on a medium are checked before the import, which then continues their chain; another medium
of the same release that came another way has a folder of its own, `SLOT.journey-2` and so on. Receipts may
also be put into the folder by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Timestamp

from appliance.domain.operation import Actor
from appliance.services.site_keys import SiteKeys
from bundles.digest import sha256_hex
from bundles.errors import ReceiptInvalid, StoreUnusable
from bundles.layout import RECEIPTS, Bundle
from bundles.media.receipts import (
    MAX_RECEIPTS,
    Act,
    ReceiptFolder,
    SignedReceipt,
    checked_chain,
    receipts_on,
)
from bundles.trust import Verified

_REMEDY = (
    "Ask whoever handed over the medium for the receipts as they were written. To import without them, take the "
    f"folder `{RECEIPTS}` off the medium."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a receipt of an import says; `operation_id` makes it one that is signed once.

    `chain` is the folder whose receipts it follows, from `prepare`.
    """

    chain: ReceiptFolder
    verified: Verified
    operation_id: str
    actor: Actor
    at: datetime
    volumes: Sequence[str]
    scanned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """How media came here: the folder of their chain, and the receipts that lay on them, checked."""

    chain: ReceiptFolder
    hops: tuple[SignedReceipt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """Signs receipts of imports into folders below `folder`; `node` is the place that they name."""

    keys: SiteKeys
    folder: Path
    node: str

    def prepare(self, verified: Verified, media: Sequence[Bundle], actor: Actor) -> Journey:
        """Check the receipts that came along before anything is copied, and that one more could be signed.

        The publisher's newest root and the site's own vouch for them. Makes the site's keys if need be.
        Raises SignatureRefused, KeyLocked, KeyringExists, MediaMissing, ContentMismatch, ReceiptInvalid,
        StoreUnusable.
        """
        keyring = self.keys.open(actor)
        keyring.signers(Timestamp.type)
        roots = {keyring.fingerprint: keyring.root, verified.root_fingerprint: verified.root}
        came: tuple[tuple[str, bytes], ...] = ()
        hops: tuple[SignedReceipt, ...] = ()
        for medium in media:
            try:
                found = receipts_on(medium)
                checked = checked_chain(found, roots, release=sha256_hex(verified.release_json))
                _follows(came, found)
            except ReceiptInvalid as error:
                raise ReceiptInvalid(detail=f"{medium.path}/{RECEIPTS}: {error.detail}", remedy=_REMEDY) from error
            if len(found) > len(came):
                came, hops = found, checked
        chain = self._chain_for(verified.release.slot, came)
        with _writing(chain):
            chain.take_over(came)
        return Journey(chain=chain, hops=hops)

    def sign(self, arrival: Arrival) -> Path:
        """Sign the receipt of an import and return its chain's folder; again for one operation, it adds none.

        Raises what `prepare` raises, and StoreUnusable.
        """
        chain = arrival.chain
        keyring = self.keys.open(arrival.actor)
        release = sha256_hex(arrival.verified.release_json)
        said = f"operation {arrival.operation_id}; {arrival.scanned}"
        if chain.holds(keyring, Act.IMPORT, release=release, said=said):
            return chain.path
        with _writing(chain):
            chain.add(
                keyring,
                Act.IMPORT,
                release=release,
                by=arrival.actor.name,
                place=self.node,
                at=arrival.at,
                volumes=arrival.volumes,
                said=said,
            )
        return chain.path

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Give each receipt with its path below `folder`, as it is: its signature speaks for it.

        Raises MediaMissing, ReceiptInvalid where names in a folder make no chain.
        """
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []
        for folder in folders:
            chain = ReceiptFolder(folder)
            for name in chain.names():
                yield f"{folder.name}/{name}", chain.content(name)

    def _chain_for(self, slot: str, came: Sequence[tuple[str, bytes]]) -> ReceiptFolder:
        """Return the first folder of a slot whose receipts are the same story as those that came."""
        names = (slot, *(f"{slot}.journey-{number}" for number in range(2, MAX_RECEIPTS)))
        folders = (ReceiptFolder(self.folder / name) for name in names)
        return next(folder for folder in folders if folder.fits(came))


def _follows(one: Sequence[tuple[str, bytes]], other: Sequence[tuple[str, bytes]]) -> None:
    """Volumes that come together were carried together: the shorter chain begins the longer one."""
    if any(mine != theirs for mine, theirs in zip(one, other, strict=False)):
        raise ReceiptInvalid(detail="these receipts and those of another volume contradict each other", remedy=_REMEDY)


@contextmanager
def _writing(chain: ReceiptFolder) -> Iterator[None]:
    """Turn a failing write into StoreUnusable."""
    try:
        yield
    except OSError as error:
        raise StoreUnusable(
            detail=f"a receipt could not be written below {chain.path}: {error.strerror}",
            remedy="Look at the disk (`journalctl -k`), then import again; all that was verified is kept.",
        ) from error
