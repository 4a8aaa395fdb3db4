"""`leeward bundle keys`: the keys that sign bundles, and the roots that say which keys count."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundles.cli.voice import FILE, FOLDER, SECRETS, Voice, grouped, new_secret, secrets, speaking

if TYPE_CHECKING:
    from bundles.ceremony import Change, Draft
    from bundles.keys import Keyring

_MODULE = click.option("--module", type=FILE, help="The token maker's PKCS #11 module.  [default: PYKCS11LIB]")
_PLAIN = click.option("--plain", is_flag=True, help="Do not encrypt private keys. For trials only.")
_PUBLIC = click.option("--public", type=FILE, help="The new public key (PEM), whose holder keeps the private half.")
_PASSPHRASE = "passphrase for the private keys"  # noqa: S105  what is asked for, no secret


@click.group("keys")
def keys() -> None:
    """The keys that sign bundles."""


@keys.command("init")
@click.argument("directory", type=FOLDER)
@click.option("--site", is_flag=True, help="Keys of a site that signs its evidence: one a role, unencrypted.")
@_PLAIN
@SECRETS
@speaking
def keys_init(voice: Voice, directory: Path, *, site: bool, plain: bool, secret_descriptor: int | None) -> None:
    """Make a new keyring in the new folder DIRECTORY; private keys are encrypted with a passphrase."""
    from bundles.keys import Keyring  # noqa: PLC0415  keeps `inspect` quick

    if site:
        keyring = Keyring.create_site(directory)
    else:
        passphrase = None if plain else new_secret(secret_descriptor, _PASSPHRASE)
        keyring = Keyring.create(directory, passphrase=passphrase, weights=True)
    fingerprint = keyring.fingerprint
    voice.say(f"Keys are in {directory}: one PEM file each, readable by you only.", "keys", directory=str(directory))
    if site or plain:
        voice.say("They are NOT encrypted: who reads these files can sign.", "unencrypted")
    voice.say("Move each to its holder's own safe; bring together as many as the thresholds ask for.", "advice")
    voice.say(
        f"Root fingerprint, to be printed and carried on paper:\n  {grouped(fingerprint)}",
        "root",
        fingerprint=fingerprint,
    )


@keys.command("generate")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--post-quantum", is_flag=True, help="ML-DSA-87, for a root key, instead of ECDSA P-384.")
@_PLAIN
@SECRETS
@speaking
def keys_generate(voice: Voice, file: Path, *, post_quantum: bool, plain: bool, secret_descriptor: int | None) -> None:
    """Make one key pair: FILE (private, encrypted) and FILE.pub, which others may have."""
    from bundles import private_keys  # noqa: PLC0415  keeps `inspect` quick
    from bundles.errors import KeyringExists  # noqa: PLC0415  the same
    from bundles.keys import write_new  # noqa: PLC0415  the same

    public = file.with_name(f"{file.name}.pub")
    if file.exists() or public.exists():
        raise KeyringExists(detail=f"{file} or {public} exists", remedy="Name a new file; keys are never overwritten.")
    passphrase = None if plain else new_secret(secret_descriptor, f"passphrase for {file.name}")
    signer = private_keys.generate(private_keys.MLDSA if post_quantum else private_keys.ECDSA)
    write_new(file, private_keys.private_pem(signer, passphrase))
    write_new(public, private_keys.public_pem(signer.public_key), mode=0o644)
    voice.say(f"Private key: {file}\nPublic key:  {public}", "key", private=str(file), public=str(public))


@keys.command("token")
@click.argument("reference", metavar="hsm:ID?label=TOKEN")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="New PEM file.")
@_MODULE
@SECRETS
@speaking
def keys_token(voice: Voice, reference: str, out: Path, module: Path | None, secret_descriptor: int | None) -> None:
    """Write the public half of a key that a token keeps."""
    from bundles import private_keys, tokens  # noqa: PLC0415  keeps `inspect` quick
    from bundles.errors import KeyringExists  # noqa: PLC0415  the same
    from bundles.keys import write_new  # noqa: PLC0415  the same

    use_module(module)
    if out.exists():
        raise KeyringExists(detail=f"{out} exists", remedy="Name a new file; keys are never overwritten.")
    key = tokens.public_key(reference, secrets(secret_descriptor))
    write_new(out, private_keys.public_pem(key), mode=0o644)
    voice.say(f"Public key: {out}", "key", public=str(out))


@keys.command("replace-signer")
@click.argument("directory", type=FOLDER)
@click.argument("name")
@_PUBLIC
@_PLAIN
@SECRETS
@speaking
def keys_replace(
    voice: Voice, directory: Path, name: str, *, public: Path | None, plain: bool, secret_descriptor: int | None
) -> None:
    """Replace the key called NAME (such as targets-1) by a new one, from the next root on."""
    from bundles import ceremony, private_keys  # noqa: PLC0415  keeps `inspect` quick

    def change(keyring: Keyring) -> Change:
        return ceremony.replacing(keyring, [name], {name: private_keys.read_public(public)} if public else None)

    _change(voice, directory, change, made_here=not (plain or public), descriptor=secret_descriptor)


@keys.command("add-signer")
@click.argument("directory", type=FOLDER)
@click.argument("role", type=click.Choice(["root", "targets", "snapshot", "timestamp"]))
@click.argument("name")
@_PUBLIC
@_PLAIN
@SECRETS
@speaking
def keys_add(
    voice: Voice,
    directory: Path,
    role: str,
    name: str,
    *,
    public: Path | None,
    plain: bool,
    secret_descriptor: int | None,
) -> None:
    """Give ROLE one more key, called NAME, from the next root on. The threshold stays."""
    from bundles import ceremony, private_keys  # noqa: PLC0415  keeps `inspect` quick

    added = {(role, name): private_keys.read_public(public) if public else None}
    change = ceremony.Change(added=added)
    _change(voice, directory, lambda _: change, made_here=not (plain or public), descriptor=secret_descriptor)


@keys.command("revoke")
@click.argument("directory", type=FOLDER)
@click.argument("name")
@SECRETS
@speaking
def keys_revoke(voice: Voice, directory: Path, name: str, *, secret_descriptor: int | None) -> None:
    """Take the key called NAME away, without another in its place, from the next root on."""
    from bundles import ceremony  # noqa: PLC0415  keeps `inspect` quick

    change = ceremony.Change(removed=frozenset({name}))
    _change(voice, directory, lambda _: change, made_here=False, descriptor=secret_descriptor)


@keys.command("rotate-root")
@click.argument("directory", type=FOLDER)
@_PLAIN
@SECRETS
@speaking
def keys_rotate(voice: Voice, directory: Path, *, plain: bool, secret_descriptor: int | None) -> None:
    """Replace all root keys by new ones; as many old as new holders must sign."""
    from bundles import ceremony  # noqa: PLC0415  keeps `inspect` quick
    from bundles.keys import key_name  # noqa: PLC0415  the same

    def change(keyring: Keyring) -> Change:
        root = keyring.root
        return ceremony.replacing(keyring, (key_name(root.keys[key_id]) for key_id in root.roles["root"].keyids))

    _change(voice, directory, change, made_here=not plain, descriptor=secret_descriptor)


@keys.command("sign-root")
@click.argument("directory", type=FOLDER)
@click.option("--key", "reference", required=True, metavar="KEY", help="A PEM file, or hsm:ID?label=TOKEN.")
@_MODULE
@SECRETS
@speaking
def keys_sign_root(
    voice: Voice, directory: Path, reference: str, module: Path | None, secret_descriptor: int | None
) -> None:
    """Sign the draft of the next root in DIRECTORY, as one of its old or new root keys."""
    from bundles import ceremony  # noqa: PLC0415  keeps `inspect` quick

    use_module(module)
    secret = secrets(secret_descriptor)
    keyring = _keyring(directory, secret)
    _tell(voice, ceremony.sign(keyring, [ceremony.signer_of(keyring, reference, secret)]))


def use_module(module: Path | None) -> None:
    """Take the PKCS #11 module that was named; securesystemslib reads its path from the environment."""
    if module is not None:
        os.environ["PYKCS11LIB"] = str(module)


def _change(
    voice: Voice, directory: Path, change: Callable[[Keyring], Change], *, made_here: bool, descriptor: int | None
) -> None:
    """Draft the next root and sign it with the root keys that are here."""
    from bundles import ceremony  # noqa: PLC0415  keeps `inspect` quick

    secret = secrets(descriptor)
    keyring = _keyring(directory, secret)
    wanted = change(keyring)
    passphrase = (
        (secret(_PASSPHRASE) if descriptor is not None else new_secret(None, _PASSPHRASE)) if made_here else None
    )
    ceremony.begin(keyring, wanted, now=datetime.now(UTC), passphrase=passphrase)
    _tell(voice, ceremony.sign(keyring, ceremony.present_signers(keyring)))


def _keyring(directory: Path, secret: Callable[[str], str]) -> Keyring:
    from bundles import ceremony  # noqa: PLC0415  keeps `inspect` quick
    from bundles.keys import Keyring  # noqa: PLC0415  the same

    keyring = Keyring.load(directory, secret=secret)
    ceremony.settle(keyring)
    return keyring


def _tell(voice: Voice, draft: Draft) -> None:
    for judge, evidence in (("old", draft.by_old), ("new", draft.by_new)):
        voice.say(
            f"  as the {judge} root judges: {evidence}",
            "judged",
            by=judge,
            threshold=evidence.threshold,
            signed=evidence.signed,
            not_signed=evidence.not_signed,
        )
    if draft.complete:
        said = f"Root version {draft.version} counts from now on. It travels in every bundle that is built with it;"
        said += "\nto send it alone, copy the N.root.json files: `leeward bundle anchor --update` takes them."
    else:
        said = f"Root version {draft.version} is a draft in {draft.path}. It counts when enough have signed:"
        said += "\n  leeward bundle keys sign-root " + str(draft.path.parent) + " --key KEY"
    voice.say(
        said, "draft", version=draft.version, complete=draft.complete, lacks_post_quantum=draft.lacks_post_quantum
    )
