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


class KeyringExists(OperatorError):
    """A folder already holds keys; they are never overwritten."""

    code = "keyring-exists"
    title = "There are keys already"


class OutputOccupied(OperatorError):
    """The folder to write to holds something that is not a bundle; it is not overwritten."""

    code = "output-occupied"
    title = "The output folder is in use"


class StoreUnusable(LeewardError):
    """The store's file system failed, or cannot do what an import needs (hard links, one file system)."""

    code = "store-unusable"
    title = "The store cannot be used"
    exit_status = 3


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


class ContentMismatch(TrustError):
    """Bytes differ from what was signed, are missing, or are there without being signed."""

    code = "content-mismatch"
    title = "The content is not what was signed"


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
