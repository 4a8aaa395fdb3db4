"""Keys, signatures and approvals from the command line; secrets through a file descriptor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundles import private_keys
from bundles.approval import APPROVALS
from bundles.ceremony import Change, begin, present_signers, sign
from bundles.cli import VERBS, bundle, voice
from bundles.keys import Keyring
from bundles.layout import METADATA
from bundles.publish import publish
from bundles.tokens import public_key
from tests.support.small_bundles import NOW, blank_release, tree
from tests.unit.bundles.site import Site, flip_bit
from tests.unit.bundles.test_recipe_and_build import recipe  # noqa: F401  a fixture
from tests.unit.trust.conftest import MODULE, PIN, Token

PASSPHRASE = "seven grey boats leave at dawn"  # noqa: S105  of keys that live as long as this test
REASON = "The courier cannot come before the audit."


@pytest.fixture(autouse=True)
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_keys, "ROUNDS", 1000)


@contextmanager
def secret(*lines: str) -> Iterator[str]:
    """Give a file descriptor that holds these lines."""
    reading, writing = os.pipe()
    os.write(writing, "".join(f"{line}\n" for line in lines).encode())
    os.close(writing)
    try:
        yield str(reading)
    finally:
        os.close(reading)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bundle, [str(argument) for argument in arguments])


def with_secret(*arguments: object, lines: tuple[str, ...] = (PASSPHRASE,)) -> Result:
    with secret(*lines) as descriptor:
        return run(*arguments, "--passphrase-fd", descriptor)


def events(result: Result) -> dict[str, dict[str, object]]:
    return {event["event"]: event for event in map(json.loads, result.stdout.splitlines())}


@pytest.fixture
def locked(tmp_path: Path) -> Keyring:
    """A keyring whose keys have a passphrase."""
    assert with_secret("keys", "init", tmp_path / "locked").exit_code == 0
    return Keyring.load(tmp_path / "locked", secret=lambda _: PASSPHRASE)


def pending(tmp_path: Path, keyring: Keyring) -> Path:
    medium = tmp_path / "medium"
    return publish(tree(), blank_release(), keyring, out=medium, now=NOW, unsigned=True).folder


def test_new_keys_are_encrypted_unless_plain_is_said(tmp_path: Path, locked: Keyring) -> None:
    assert all(path.read_bytes().startswith(private_keys.ENCRYPTED) for path in locked.directory.glob("*.pem"))

    nobody = run("keys", "init", tmp_path / "nobody")
    plain = run("keys", "init", tmp_path / "plain", "--plain")
    site = run("keys", "init", tmp_path / "site", "--site")

    assert nobody.exit_code == 2
    assert "nobody sits at a terminal" in nobody.output
    assert not (tmp_path / "nobody").exists()
    assert "NOT encrypted" in plain.output
    assert "NOT encrypted" in site.output
    assert not (tmp_path / "site/weights.pem").exists()


def test_a_person_types_a_new_passphrase_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([PASSPHRASE, PASSPHRASE + ".", PASSPHRASE, PASSPHRASE])
    monkeypatch.setattr(voice.click, "prompt", lambda *_args, **_options: next(typed))
    monkeypatch.setattr(voice, "_at_terminal", lambda: True)

    differing = run("keys", "generate", tmp_path / "key.pem")
    assert differing.exit_code == 2
    assert "differ" in differing.output
    assert not list(tmp_path.iterdir())

    assert run("keys", "generate", tmp_path / "key.pem").exit_code == 0
    opened = private_keys.open_private(tmp_path / "key.pem", lambda _: PASSPHRASE)
    assert private_keys.read_public(tmp_path / "key.pem.pub") == opened.public_key


def test_a_descriptor_that_gives_nothing_is_said_so(tmp_path: Path) -> None:
    empty = with_secret("keys", "generate", tmp_path / "key.pem", lines=())
    closed = run("keys", "generate", tmp_path / "key.pem", "--passphrase-fd", 987)

    assert "gives no passphrase" in empty.output
    assert "cannot be read" in closed.output
    assert (empty.exit_code, closed.exit_code) == (2, 2)
    assert not list(tmp_path.iterdir())


def test_a_generated_key_is_never_overwritten(tmp_path: Path) -> None:
    assert run("keys", "generate", tmp_path / "key.pem", "--plain", "--post-quantum").exit_code == 0
    before = (tmp_path / "key.pem").read_bytes()

    again = run("keys", "generate", tmp_path / "key.pem", "--plain")

    assert again.exit_code == 2
    assert (tmp_path / "key.pem").read_bytes() == before
    assert private_keys.open_private(tmp_path / "key.pem").public_key.scheme == private_keys.MLDSA


def test_two_signers_and_a_seal_make_a_bundle(tmp_path: Path, locked: Keyring) -> None:
    medium = pending(tmp_path, locked)
    site = Site.trusting(tmp_path / "site", locked)
    sums = tmp_path / "sums"
    release = open_release(medium)
    sums.write_text("".join(f"{entry['sha256']}  {entry['path']}\n" for entry in release["files"]))

    first = with_secret("sign", medium, "--key", locked.directory / "targets-1.pem", "--against", sums, "--json")
    early = with_secret("seal", medium, "--keys", locked.directory)
    second = with_secret("sign", medium, "--key", locked.directory / "targets-3.pem")
    sealed = with_secret("seal", medium, "--keys", locked.directory)

    assert events(first)["read"]["compared"] == len(release["files"])
    assert events(first)["signatures"]["complete"] is False
    assert early.exit_code == 4
    assert "not signed by targets-2" in early.output
    assert "2 signatures required, 2 found" in second.output
    assert "is a bundle now" in sealed.output
    assert site.import_(medium).is_dir()


def open_release(medium: Path) -> dict[str, list[dict[str, str]]]:
    (manifest,) = (medium / "targets").iterdir()
    plain: dict[str, list[dict[str, str]]] = json.loads(manifest.read_bytes())
    return plain


def test_a_release_goes_from_the_recipe_over_two_signers_to_the_verdict(
    tmp_path: Path,
    recipe: Path,  # noqa: F811  the fixture
    locked: Keyring,
) -> None:
    medium, build_keys = tmp_path / "medium", tmp_path / "build-keys"
    shutil.copytree(locked.directory, build_keys)
    for path in (*build_keys.glob("root-*.pem"), *build_keys.glob("targets-*.pem")):
        path.unlink()
    made = ("build", recipe, "--out", medium, "--keys", build_keys, "--cache", tmp_path / "cache")

    alone = with_secret(*made)
    built = with_secret(*made, "--unsigned")
    for name in ("targets-1", "targets-2"):
        assert with_secret("sign", medium, "--key", locked.directory / f"{name}.pem").exit_code == 0
    assert with_secret("seal", medium, "--keys", build_keys).exit_code == 0
    verified = run("verify", medium, "--root-fingerprint", locked.fingerprint)

    assert alone.exit_code == 4
    assert "role targets needs 2 keys" in alone.output
    assert "NOT SIGNED" in built.output
    assert "signatures" in built.output  # Model Signing, by the build host's weights key
    assert verified.exit_code == 0
    assert "not signed by targets-3" in verified.output


def test_a_signature_from_a_copy_is_taken_at_the_seal(tmp_path: Path, keyring: Keyring) -> None:
    medium = pending(tmp_path, keyring)
    run("sign", medium, "--key", keyring.directory / "targets-1.pem")
    copy = tmp_path / "copied.targets.json"
    copy.write_bytes((medium / METADATA / "1.targets.json").read_bytes())
    pristine = pending(tmp_path / "again", keyring)
    run("sign", pristine, "--key", keyring.directory / "targets-2.pem")

    sealed = run("seal", pristine, "--keys", keyring.directory, "--signatures", copy)

    assert sealed.exit_code == 0
    assert "2 signatures required, 2 found" in sealed.output


def test_sign_refuses_a_flipped_bit_and_a_wrong_passphrase(tmp_path: Path, locked: Keyring) -> None:
    medium = pending(tmp_path, locked)
    before = (medium / METADATA / "1.targets.json").read_bytes()

    wrong = with_secret("sign", medium, "--key", locked.directory / "targets-1.pem", lines=("not the right one",))
    flip_bit(max((medium / "blobs").iterdir(), key=lambda path: path.stat().st_size), 50)
    damaged = with_secret("sign", medium, "--key", locked.directory / "targets-1.pem")

    assert (wrong.exit_code, damaged.exit_code) == (2, 4)
    assert "does not open" in wrong.output
    assert "damaged" in damaged.output
    assert (medium / METADATA / "1.targets.json").read_bytes() == before


def test_a_signer_is_replaced_a_key_revoked_and_the_root_rotated(locked: Keyring) -> None:
    replaced = with_secret("keys", "replace-signer", locked.directory, "targets-1", "--json")
    added = with_secret("keys", "add-signer", locked.directory, "targets", "targets-4")
    revoked = with_secret("keys", "revoke", locked.directory, "targets-2")
    rotated = with_secret("keys", "rotate-root", locked.directory)

    assert events(replaced)["draft"] == {
        "complete": True,
        "event": "draft",
        "lacks_post_quantum": False,
        "version": 2,
    }
    assert [result.exit_code for result in (replaced, added, revoked, rotated)] == [0, 0, 0, 0]
    assert "Root version 5 counts from now on" in rotated.output
    assert len(locked.signers("targets")) == 3
    assert len(locked.signers("root")) == 3


def test_a_draft_is_signed_by_a_holder_elsewhere(tmp_path: Path, keyring: Keyring) -> None:
    safe = tmp_path / "root-pq.pem"
    (keyring.directory / "root-pq.pem").rename(safe)
    public = tmp_path / "new.pem"
    run("keys", "generate", public, "--plain")

    begun = run("keys", "replace-signer", keyring.directory, "targets-1", "--public", f"{public}.pub")
    stranger = run("keys", "sign-root", keyring.directory, "--key", public)
    ended = run("keys", "sign-root", keyring.directory, "--key", safe)

    assert "is a draft in" in begun.output
    assert stranger.exit_code == 4
    assert "counts from now on" in ended.output
    assert keyring.root.version == 2


def test_a_token_gives_its_public_key_and_signs(tmp_path: Path, keyring: Keyring, token: Token) -> None:
    place = token.make_key(21)
    shown = run("keys", "token", place, "--out", tmp_path / "token.pub", "--module", MODULE)
    again = run("keys", "token", place, "--out", tmp_path / "token.pub")
    change = Change(
        removed=frozenset({"targets-1"}), added={("targets", "targets-1"): public_key(place, lambda _: PIN)}
    )
    begin(keyring, change, now=NOW)
    sign(keyring, present_signers(keyring))

    signed = with_secret("sign", pending(tmp_path, keyring), "--key", place, lines=(PIN,))

    assert (shown.exit_code, again.exit_code, signed.exit_code) == (0, 2, 0)
    assert private_keys.read_public(tmp_path / "token.pub").keyid in keyring.root.keys
    assert "signed by targets-1" in signed.output


@pytest.fixture
def people(tmp_path: Path, site: Site) -> list[Path]:
    """Approvers ada and ben, one of whom must approve an import."""
    for name in ("ada", "ben"):
        assert run("keys", "generate", tmp_path / name, "--plain").exit_code == 0
    named = [f"{name}={tmp_path / name}.pub" for name in ("ada", "ben")]
    assert run("approvers", *named, "--threshold", 1, "--state", site.folder / "trust").exit_code == 0
    return [tmp_path / "ada", tmp_path / "ben"]


def test_an_approval_lets_the_import_happen(tmp_path: Path, keyring: Keyring, site: Site, people: list[Path]) -> None:
    medium = publish(tree(), blank_release(), keyring, out=tmp_path / "medium").folder
    state = site.folder / "trust"

    approved = run("approve", medium, "--key", people[0], "--state", state)

    assert "import of 26.11.0-e1, epoch 1, signed" in approved.output
    assert site.import_(medium).is_dir()
    elsewhere = run("approve", medium, "--key", people[1], "--state", state, "--out", tmp_path / "out", "--json")
    assert Path(str(events(elsewhere)["approval"]["path"])).parent == tmp_path / "out"
    assert len(list((state / APPROVALS).iterdir())) == 1


def test_an_override_needs_a_reason_two_people_and_a_need(
    tmp_path: Path, keyring: Keyring, site: Site, people: list[Path]
) -> None:
    old = publish(tree(), blank_release(epoch=1), keyring, out=tmp_path / "old").folder
    new = publish(tree(seed=2), blank_release(epoch=2, version="26.12.0"), keyring, out=tmp_path / "new").folder
    state = site.folder / "trust"
    for medium in (old, new):
        assert run("approve", medium, "--key", people[0], "--state", state).exit_code == 0
    idle = run("approve", new, "--key", people[0], "--state", state, "--override", "rollback", "--reason", REASON)
    site.import_(new)

    mute = run("approve", old, "--key", people[0], "--state", state, "--override", "rollback")
    plain = run("approve", old, "--key", people[0], "--state", state)
    signed = [
        run("approve", old, "--key", key, "--state", state, "--override", "rollback", "--reason", REASON)
        for key in people
    ]

    assert [result.exit_code for result in (idle, mute, plain, *signed)] == [4, 2, 4, 0, 0]
    assert "nothing needs override-rollback" in idle.output
    assert "needs a reason" in mute.output
    verified = run("verify", old, "--state", state)
    assert verified.exit_code == 0
    assert "approved here by ada" in verified.output
    assert f"OVERRIDE-ROLLBACK by ben: {REASON}" in verified.output
    assert site.import_(old).is_dir()


def test_approvers_are_shown_and_wrong_ones_refused(tmp_path: Path, site: Site, people: list[Path]) -> None:
    state = site.folder / "trust"

    shown = run("approvers", "--state", state, "--json")
    nobody = run("approvers", "--state", tmp_path / "empty")
    wrong = [
        run("approvers", "--state", state, *arguments)
        for arguments in (["ada"], [f"ada={people[0]}.pub", "--threshold", 2], ["ada=/missing"], ["Ada A=/missing"])
    ]
    unnamed = run("approve", tmp_path, "--key", people[0], "--state", tmp_path / "empty")

    assert events(shown)["approvers"]["names"] == ["ada", "ben"]
    assert "nobody's approval" in nobody.output
    assert [result.exit_code for result in wrong] == [2, 2, 2, 2]
    assert unnamed.exit_code == 4
    assert events(run("approvers", "--state", state, "--json"))["approvers"]["threshold"] == 1


def test_every_verb_can_be_loaded_and_explains_itself() -> None:
    for verb in VERBS:
        result = run(verb, "--help")
        assert result.exit_code == 0, verb
        assert result.output.startswith("Usage:")


def test_loading_every_verb_loads_no_cryptography() -> None:
    """A verb imports what it needs when it runs, so that the command line starts at once."""
    code = (
        "import sys; from bundles.cli import VERBS, bundle; import click;"
        "[bundle.get_command(click.Context(bundle), verb) for verb in VERBS];"
        "print(sorted({'tuf', 'cryptography', 'securesystemslib', 'pkcs11'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"
