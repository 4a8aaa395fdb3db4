"""What can go wrong with a bundle, said to a person.

Every error of Leeward carries four things: a stable `code` (kebab-case, a heading in
`docs/errors.md`), a `title` (what), a `detail` (what was seen and what was expected) and a
`remedy` (what to do without a network). The appliance's own errors grow from the same root, in
`appliance.domain.errors`, where the whole tree is drawn.
"""

from __future__ import annotations

from typing import ClassVar


class LeewardError(Exception):
    """The root of all errors that Leeward raises on purpose."""

    code: ClassVar[str] = "leeward-error"
    title: ClassVar[str] = "Leeward could not go on"
    exit_status: ClassVar[int] = 1

    def __init__(self, *, detail: str, remedy: str) -> None:
        super().__init__(f"{self.title}: {detail}")
        self.detail = detail
        self.remedy = remedy


class OperatorError(LeewardError):
    """The operator can fix this and try again."""

    exit_status = 2


class RecipeInvalid(OperatorError):
    """A recipe does not parse or contradicts itself."""

    code = "recipe-invalid"
    title = "The recipe is not valid"


class SourceFailed(OperatorError):
    """A source of a recipe (hub, index, folder, package archive) did not give what was asked."""

    code = "source-failed"
    title = "A source did not deliver"


class MediaMissing(OperatorError):
    """There is no readable bundle where one was named, or a part of it cannot be read."""

    code = "media-missing"
    title = "The medium could not be read"


class FileUnusable(OperatorError):
    """A file or folder that a command was to use cannot be read or written; the detail names it."""

    code = "file-unusable"
    title = "A file or folder could not be used"


class VolumeTooSmall(OperatorError):
    """A bundle cannot be spread over volumes of this size."""

    code = "volume-too-small"
    title = "The volumes are too small"


class VolumesMissing(MediaMissing):
    """What is here of a media set was taken; more volumes are needed to end the import."""

    code = "volumes-missing"
    title = "More volumes are needed"


class VolumeUnfinished(MediaMissing):
    """Writing a volume was interrupted: a power cut, a pulled stick, a kill."""

    code = "volume-unfinished"
    title = "The volume was not written to its end"


class VolumeForeign(OperatorError):
    """A volume that belongs to another release stands where one of this set is wanted."""

    code = "volume-foreign"
    title = "The volume belongs to another set"


class RepairRequestInvalid(OperatorError):
    """A repair request cannot be read, or is about another bundle."""

    code = "repair-request-invalid"
    title = "The repair request cannot be used"


class ScanFailed(OperatorError):
    """The configured scanner could not be run, or gave no verdict."""

    code = "scan-failed"
    title = "The volume could not be scanned"


class KeyringExists(OperatorError):
    """A folder already holds keys; they are never overwritten."""

    code = "keyring-exists"
    title = "There are keys already"


class KeyLocked(OperatorError):
    """A private key could not be used: no passphrase or PIN, a wrong one, or the token is not there."""

    code = "key-locked"
    title = "The private key could not be opened"


class OutputOccupied(OperatorError):
    """The folder to write to holds something that is not a bundle; it is not overwritten."""

    code = "output-occupied"
    title = "The output folder is in use"


class InventoryInvalid(OperatorError):
    """An inventory of a site's store cannot be read, or does not suit what is asked of it."""

    code = "inventory-invalid"
    title = "The inventory cannot be used"


class DeltaMisfit(OperatorError):
    """The store lacks what a delta builds on: it was made for another node, or for an earlier state."""

    code = "delta-misfit"
    title = "The delta does not fit this store"


class StoreUnusable(LeewardError):
    """The store's file system failed, or cannot do what an import needs (hard links, one file system)."""

    code = "store-unusable"
    title = "The store cannot be used"
    exit_status = 3


class DeltaBaseDamaged(StoreUnusable):
    """A file of the store that a delta builds on is not what its digest says."""

    code = "delta-base-damaged"
    title = "A file in the store is damaged"


class StoreFull(LeewardError):
    """There is not enough room for what an import needs."""

    code = "store-full"
    title = "There is not enough disk space"
    exit_status = 3


class Canceled(LeewardError):
    """The caller asked to stop; what was begun is undone or can be resumed."""

    code = "canceled"
    title = "Stopped on request"
    exit_status = 130


class TrustError(LeewardError):
    """Stop, and call the publisher of the bundle."""

    exit_status = 4


class TrustRootMissing(TrustError):
    """Nothing on this machine says whom to trust."""

    code = "trust-root-missing"
    title = "No trusted root is known here"


class SignatureRefused(TrustError):
    """The metadata is not signed by enough of the keys that the trusted root names."""

    code = "signature-refused"
    title = "The signature was refused"


class ApprovalMissing(TrustError):
    """This site imports only what its own people have countersigned, and too few of them have."""

    code = "approval-missing"
    title = "The site has not approved this release"


class ContentMismatch(TrustError):
    """Bytes differ from what was signed, are missing, or are there without being signed."""

    code = "content-mismatch"
    title = "The content is not what was signed"


class ScanRefused(TrustError):
    """The configured scanner found something on a volume."""

    code = "scan-refused"
    title = "The scanner refused the volume"


class ReceiptInvalid(TrustError):
    """A chain of custody receipts is broken, forged, or not about this bundle."""

    code = "receipt-invalid"
    title = "The custody receipts do not hold"


class RollbackRefused(TrustError):
    """The bundle is older than what this site has already accepted."""

    code = "rollback-refused"
    title = "The bundle is older than what was accepted before"


class ReleaseExpired(TrustError):
    """The metadata's expiry lies before the reference time."""

    code = "release-expired"
    title = "The bundle's signatures have expired"


class ReleaseInvalid(TrustError):
    """Signed metadata breaks the rules of the format."""

    code = "release-invalid"
    title = "The release breaks the rules of the format"


class PairMismatch(TrustError):
    """The draft head was made for another target."""

    code = "pair-mismatch"
    title = "The draft head does not belong to the target"
