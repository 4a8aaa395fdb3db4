"""Custody receipts of this node: what arrived here, signed by the site's own keys.

One folder for each release, named for its slot, holds a chain of receipts (bundles.media.receipts). Receipts
that travelled with the medium may be put there before the import, which then continues their chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Timestamp

from appliance.domain.operation import Actor
from appliance.services.site_keys import SiteKeys
from bundles.digest import sha256_hex
from bundles.errors import StoreUnusable
from bundles.media.receipts import Act, ReceiptFolder
from bundles.trust import Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a receipt of an import says; `operation_id` makes it one that is signed once."""

    verified: Verified
    operation_id: str
    actor: Actor
    at: datetime
    volumes: Sequence[str]
    scanned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """Signs receipts of imports into folders below `folder`; `node` is the place that they name."""

    keys: SiteKeys
    folder: Path
    node: str

    def prepare(self, slot: str, actor: Actor) -> None:
        """Find out before anything is copied whether a receipt could be signed. Makes the site's keys if need be.

        Raises SignatureRefused, KeyLocked, KeyringExists, MediaMissing, ReceiptInvalid.
        """
        self.keys.open(actor).signers(Timestamp.type)
        self._chain(slot).names()

    def sign(self, arrival: Arrival) -> Path:
        """Sign the receipt of an import and return its chain's folder; again for one operation, it adds none.

        Raises what `prepare` raises, and StoreUnusable.
        """
        chain = self._chain(arrival.verified.release.slot)
        keyring = self.keys.open(arrival.actor)
        release = sha256_hex(arrival.verified.release_json)
        said = f"operation {arrival.operation_id}; {arrival.scanned}"
        if chain.holds(keyring, Act.IMPORT, release=release, said=said):
            return chain.path
        try:
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
        except OSError as error:
            raise StoreUnusable(
                detail=f"the receipt of this import could not be written below {chain.path}: {error.strerror}",
                remedy="Look at the disk (`journalctl -k`), then import again; all that was verified is kept.",
            ) from error
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

    def _chain(self, slot: str) -> ReceiptFolder:
        return ReceiptFolder(self.folder / slot)
