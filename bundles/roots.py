"""The chain of roots: who may sign what, from the root that came on paper to the newest one.

Each root has the version after the one before, is signed by as many keys as the root before it and
as it itself asks for, and carries an ML-DSA signature of both. A gap or a fork is refused.

Specification: The Update Framework 1.0, section 5.3.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuf.api.metadata import Metadata, Root

from bundles.errors import SignatureRefused
from bundles.refusal import check_post_quantum, evidence_of, refusals_of_tuf

CALL = "Do not use it. Call the publisher on a number that you know, and read out the root's version."


def read_root(content: bytes) -> Metadata[Root]:
    """Parse a root. Raises ReleaseInvalid where it is none."""
    with refusals_of_tuf(None, None, None):
        return Metadata[Root].from_bytes(content)


def follow_roots(first: bytes, following: Sequence[bytes]) -> Root:
    """Return the newest root, after every step from `first` on was checked.

    `first` answers for itself and must be trusted already. Raises SignatureRefused, ReleaseInvalid.
    """
    before = read_root(first)
    _check_step(before, before)
    for content in following:
        found = read_root(content)
        if found.signed.version != before.signed.version + 1:
            raise SignatureRefused(
                detail=f"root version {found.signed.version} does not follow version {before.signed.version}: "
                f"{before.signed.version + 1}.root.json is missing",
                remedy="Ask the publisher for every root since the first; they travel together.",
            )
        _check_step(found, before)
        before = found
    check_post_quantum([first, *following])
    return before.signed


def same_root(one: bytes, other: bytes) -> bool:
    """Whether two files say the same; a root may be signed by one more key later."""
    return one == other or read_root(one).signed_bytes == read_root(other).signed_bytes


def _check_step(found: Metadata[Root], before: Metadata[Root]) -> None:
    for judge in (before.signed, found.signed):
        shown = evidence_of(Root.type, found, judge)
        if not shown.passed:
            raise SignatureRefused(detail=f"{shown}; judged by root version {judge.version}", remedy=CALL)
