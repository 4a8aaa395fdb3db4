"""Changing who may sign: the next root, from a draft that each holder signs to the version that counts.

    N+1.root.draft.json    what is proposed, with the signatures so far
    NAME.vN+1.pem          a new private key that was made here for it

A draft becomes `N+1.root.json`, with one rename, when as many keys as the old and the new root ask
for have signed it, an ML-DSA key of both among them. Then `NAME.pem` moves to `NAME.retired-vN.pem`
and the new key takes its name. A kill at any instant leaves the old root in force with a draft, or
the new root; `settle` finishes what was begun.

Specification: The Update Framework 1.0, sections 5.3 and 6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key, Signer, SSlibKey
from tuf.api.metadata import Metadata, Root

from bundles import private_keys, tokens
from bundles.errors import KeyringExists, MediaMissing, SignatureRefused
from bundles.keys import KEY_NAME, ROLES, Keyring, key_name, named, open_signer, root_expiry, scheme_of, write_new
from bundles.private_keys import Secret
from bundles.refusal import RoleEvidence, check_post_quantum, evidence_of
from bundles.roots import read_root
from bundles.transfer import fsync_folder

_FRESH_KEY = re.compile(r"([a-z0-9-]{1,32})\.v([1-9][0-9]{0,5})\.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the next root shall say: keys that go, by name, and keys that come, by role and name.

    A key that comes is public alone where its holder keeps the private half, and None where it
    shall be made here.
    """

    removed: frozenset[str] = frozenset()
    added: Mapping[tuple[str, str], SSlibKey | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """How far the next root is: who signed it as the old root and as itself judge."""

    version: int
    path: Path
    by_old: RoleEvidence
    by_new: RoleEvidence
    lacks_post_quantum: bool

    @property
    def complete(self) -> bool:
        """Whether it counts."""
        return self.by_old.passed and self.by_new.passed and not self.lacks_post_quantum

    def __str__(self) -> str:
        return f"by the old root: {self.by_old}; by the new root: {self.by_new}" + (
            "; an ML-DSA signature is missing" if self.lacks_post_quantum else ""
        )


def replacing(keyring: Keyring, names: Iterable[str], public: Mapping[str, SSlibKey] | None = None) -> Change:
    """Return the change that replaces the named keys. Raises SignatureRefused for a name nobody has."""
    roles = _roles(keyring.root)
    wanted = frozenset(names)
    _check_known(wanted, roles)
    added = {(roles[name], name): (public or {}).get(name) for name in sorted(wanted)}
    return Change(removed=wanted, added=added)


def begin(keyring: Keyring, change: Change, *, now: datetime, passphrase: str | None = None) -> Draft:
    """Write the next root's draft, unsigned, and the new keys that are made here.

    Raises KeyringExists where a draft is there already, SignatureRefused where the new root could
    never be met (fewer keys than a threshold, or no ML-DSA root key), KeyLocked.
    """
    root = keyring.root
    roles = _roles(root)
    _check_known(change.removed, roles)
    root.version += 1
    path = _draft_path(keyring, root.version)
    if path.exists():
        raise KeyringExists(
            detail=f"{path} is a draft that waits for signatures",
            remedy="Sign it with `leeward bundle keys sign-root`, or remove it if it was a mistake.",
        )
    for name in change.removed:
        role = roles[name]
        (key_id,) = (key_id for key_id in root.roles[role].keyids if key_name(root.keys[key_id]) == name)
        root.revoke_key(key_id, role)
    made = {}
    for (role, name), public in change.added.items():
        _check_new(role, name, root)
        key = public
        if key is None:
            signer = private_keys.generate(scheme_of(name))
            made[name] = private_keys.private_pem(signer, passphrase)
            key = signer.public_key
        root.add_key(named(key, name), role)
    _check_possible(root)
    root.expires = root_expiry(now)
    for name, content in made.items():
        fresh = keyring.directory / f"{name}.v{root.version}.pem"
        fresh.unlink(missing_ok=True)  # of a draft that was never written, or removed
        write_new(fresh, content)
    write_new(path, Metadata(root).to_bytes(), mode=0o644)
    fsync_folder(keyring.directory)
    return _progress(keyring, Metadata(root), path)


def sign(keyring: Keyring, signers: Iterable[Signer]) -> Draft:
    """Add signatures to the draft; where it is complete, it becomes the newest root.

    Raises MediaMissing where there is no draft, SignatureRefused for a signer whom neither root names.
    """
    path = _draft_path(keyring, keyring.root.version + 1)
    metadata = _read_draft(path)
    allowed = {*keyring.root.roles[Root.type].keyids, *metadata.signed.roles[Root.type].keyids}
    for signer in signers:
        if signer.public_key.keyid not in allowed:
            raise SignatureRefused(
                detail=f"{key_name(signer.public_key)} is no root key, neither of the old root nor of the new one",
                remedy="Sign with a root key.",
            )
        metadata.sign(signer, append=True)
    _replace_durably(path, metadata.to_bytes())
    draft = _progress(keyring, metadata, path)
    if draft.complete:
        settle(keyring)
    return draft


def renew(keyring: Keyring, *names: str, now: datetime, passphrase: str | None = None) -> Draft:
    """Replace keys by new ones made here, signed by the root keys that are here. Raises what `begin` raises."""
    begin(keyring, replacing(keyring, names), now=now, passphrase=passphrase)
    return sign(keyring, present_signers(keyring))


def present_signers(keyring: Keyring) -> tuple[Signer, ...]:
    """Return the root keys, old and new, whose private halves lie in the keyring. Raises KeyLocked."""
    path = _draft_path(keyring, keyring.root.version + 1)
    draft = _read_draft(path).signed
    found = list(keyring.present(Root.type))
    for key_id in draft.roles[Root.type].keyids:
        key = draft.keys[key_id]
        fresh = keyring.directory / f"{key_name(key)}.v{draft.version}.pem"
        if isinstance(key, SSlibKey) and fresh.is_file():
            found.append(open_signer(str(fresh), key, keyring.secret))
    return tuple(found)


def signer_of(keyring: Keyring, reference: str, secret: Secret) -> Signer:
    """Open a root key by its file or token, as the old or the new root names it.

    Raises SignatureRefused where neither does, MediaMissing where there is no draft, KeyLocked.
    """
    draft = _read_draft(_draft_path(keyring, keyring.root.version + 1)).signed
    keys = {key_id: key for root in (keyring.root, draft) for key_id, key in _root_keys(root).items()}
    return opened_as(keys.values(), reference, secret)


def opened_as(keys: Iterable[Key], reference: str, secret: Secret) -> Signer:
    """Open a private key as the one of `keys` that it belongs to. Raises SignatureRefused, KeyLocked."""
    known = [key for key in keys if isinstance(key, SSlibKey)]
    if reference.startswith(tokens.SCHEME):
        return tokens.signer(reference, _among(known, tokens.public_key(reference, secret), reference), secret)
    opened = private_keys.open_private(Path(reference), secret)
    return type(opened)(opened._private_key, _among(known, opened.public_key, reference))  # noqa: SLF001  under its name


def settle(keyring: Keyring) -> None:
    """Let a draft count that enough have signed, and give new keys their names; again does no harm."""
    path = _draft_path(keyring, keyring.root.version + 1)
    if path.exists():
        metadata = _read_draft(path)
        draft = _progress(keyring, metadata, path)
        if draft.complete:
            for name in _replaced_elsewhere(keyring, metadata.signed):  # first: afterwards nothing tells them apart
                _retire(keyring, name, draft.version - 1)
            path.rename(keyring.directory / f"{draft.version}.root.json")
            fsync_folder(keyring.directory)
    newest = keyring.root.version
    names = {key_name(key) for key in keyring.root.keys.values()}
    for path in sorted(keyring.directory.iterdir()):
        match = _FRESH_KEY.fullmatch(path.name)
        if match and int(match[2]) <= newest:
            _retire(keyring, match[1], int(match[2]) - 1)
            path.rename(keyring.directory / f"{match[1]}.pem")
    before = {key_name(key) for key in _previous(keyring).keys.values()}
    for name in before - names:
        _retire(keyring, name, newest - 1)
    fsync_folder(keyring.directory)


def _retire(keyring: Keyring, name: str, version: int) -> None:
    for kind in ("pem", "token"):
        old = keyring.directory / f"{name}.{kind}"
        if old.is_file():
            old.rename(keyring.directory / f"{name}.retired-v{version}.{kind}")


def _replaced_elsewhere(keyring: Keyring, new: Root) -> list[str]:
    """Return the names of keys that change and whose new private half is not made here."""
    old = keyring.root
    names = [key_name(key) for key_id, key in old.keys.items() if key_id not in new.keys]
    return [name for name in names if not (keyring.directory / f"{name}.v{new.version}.pem").is_file()]


def _previous(keyring: Keyring) -> Root:
    roots = keyring.roots()
    return read_root(roots[max(0, len(roots) - 2)]).signed


def _among(known: list[SSlibKey], public: SSlibKey, reference: str) -> SSlibKey:
    for key in known:
        if key.keyid == public.keyid:
            return key
    raise SignatureRefused(
        detail=f"the key in {reference} is none of {', '.join(sorted(map(key_name, known)))}",
        remedy="Sign with a key that the root names for this.",
    )


def _progress(keyring: Keyring, metadata: Metadata[Root], path: Path) -> Draft:
    try:
        check_post_quantum([keyring.roots()[-1], metadata.to_bytes()])
    except SignatureRefused:
        lacking = True
    else:
        lacking = False
    return Draft(
        version=metadata.signed.version,
        path=path,
        by_old=evidence_of(Root.type, metadata, keyring.root),
        by_new=evidence_of(Root.type, metadata, metadata.signed),
        lacks_post_quantum=lacking,
    )


def _check_known(names: frozenset[str], roles: Mapping[str, str]) -> None:
    unknown = sorted(names - set(roles))
    if unknown:
        raise SignatureRefused(
            detail=f"the newest root names no key {', '.join(unknown)}; it names {', '.join(sorted(roles))}",
            remedy="Name a key of the newest root.",
        )


def _check_new(role: str, name: str, root: Root) -> None:
    taken = {key_name(key) for key in root.keys.values()}
    if role not in ROLES or not KEY_NAME.fullmatch(name) or name in taken:
        raise SignatureRefused(
            detail=f"{name!a} cannot be the name of a new key of role {role!a}",
            remedy="Take a name in a-z, 0-9 and - that no key has, and one of the roles " + ", ".join(ROLES) + ".",
        )


def _check_possible(root: Root) -> None:
    for name, role in root.roles.items():
        if len(role.keyids) < role.threshold:
            raise SignatureRefused(
                detail=f"role {name} would have {len(role.keyids)} keys, but needs {role.threshold} signatures",
                remedy="Replace the key instead: `leeward bundle keys replace-signer`.",
            )
    schemes = {root.keys[key_id].scheme for key_id in root.roles[Root.type].keyids}
    if private_keys.MLDSA not in schemes:
        raise SignatureRefused(
            detail="the new root would have no ML-DSA key, and sites ask for one",
            remedy="Replace root-pq by another ML-DSA key instead of revoking it.",
        )


def _roles(root: Root) -> Mapping[str, str]:
    """Return each key's role by its name."""
    return {key_name(root.keys[key_id]): role for role in ROLES for key_id in root.roles[role].keyids}


def _root_keys(root: Root) -> Mapping[str, Key]:
    return {key_id: root.keys[key_id] for key_id in root.roles[Root.type].keyids}


def _draft_path(keyring: Keyring, version: int) -> Path:
    return keyring.directory / f"{version}.root.draft.json"


def _read_draft(path: Path) -> Metadata[Root]:
    try:
        return read_root(path.read_bytes())
    except FileNotFoundError:
        raise MediaMissing(
            detail=f"{path} is not there",
            remedy="Begin with `leeward bundle keys replace-signer`, `revoke` or `rotate-root`.",
        ) from None


def _replace_durably(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    write_new(partial, content, mode=0o644)
    partial.replace(path)
    fsync_folder(path.parent)
