"""The lock between target and draft head.

An EAGLE head reuses its target's embeddings, so its `params.json` must agree with the target's in
width and vocabulary; with another target it would still run, only with rejected drafts, which no
error would show. Field names are those of Mistral's native `params.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bundles.codec import CodecError, parse_json
from bundles.digest import tree_digest
from bundles.errors import PairMismatch, ReleaseInvalid
from bundles.release import DRAFT_FOLDER, TARGET_FOLDER, FileEntry, PairLock

TARGET_PARAMS = f"{TARGET_FOLDER}params.json"
DRAFT_PARAMS = f"{DRAFT_FOLDER}params.json"
MAX_PARAMS_BYTES = 1024 * 1024

WIDTH = "dim"
VOCABULARY = "vocab_size"
_SHARED = (WIDTH, VOCABULARY)


def lock(files: Iterable[FileEntry], *, target_params: bytes, draft_params: bytes) -> PairLock:
    """Bind the draft head to the target.

    `target_params` and `draft_params` are the bytes of the two `params.json`. Raises PairMismatch
    with every differing field, ReleaseInvalid where a `params.json` cannot be read.
    """
    target = _read(TARGET_PARAMS, target_params)
    draft = _read(DRAFT_PARAMS, draft_params)
    differing = [
        f"{field}: the target has {target[field]:,}, the draft head {draft[field]:,}"
        for field in _SHARED
        if target[field] != draft[field]
    ]
    if differing:
        raise PairMismatch(
            detail="; ".join(differing),
            remedy="Take the draft head that was published for this target, then build the release again.",
        )
    listed = [(entry.path, entry.sha256) for entry in files]
    return PairLock(
        target_digest=tree_digest(file for file in listed if file[0].startswith(TARGET_FOLDER)),
        draft_digest=tree_digest(file for file in listed if file[0].startswith(DRAFT_FOLDER)),
        vocabulary_size=target[VOCABULARY],
        hidden_size=target[WIDTH],
    )


def check(files: Iterable[FileEntry], signed: PairLock, *, target_params: bytes, draft_params: bytes) -> None:
    """Check the signed lock against the two `params.json`; raises what `lock` raises, and PairMismatch."""
    found = lock(files, target_params=target_params, draft_params=draft_params)
    if found != signed:
        raise PairMismatch(
            detail=f"the signed lock says {signed}; the files say {found}",
            remedy="Do not import this bundle. The publisher must build the release again.",
        )


def _read(name: str, content: bytes) -> Mapping[str, int]:
    try:
        plain = parse_json(content)
        if not isinstance(plain, dict):
            raise CodecError("it is not an object")  # noqa: TRY301  one place says how a fault is told
        numbers = {}
        for field in _SHARED:
            value = plain.get(field)
            if type(value) is not int or value < 1:
                raise CodecError(f"{field} is {value!a}; a positive whole number is needed")  # noqa: TRY301  as above
            numbers[field] = value
    except CodecError as error:
        raise ReleaseInvalid(
            detail=f"{name}: {error}", remedy="Take the file from its source again, in Mistral's native layout."
        ) from error
    return numbers
