"""What a file system refuses, said to a person: no command of `leeward bundle` ends in a traceback."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundles.cli import bundle
from bundles.cli.voice import Voice, told
from bundles.errors import FileUnusable, StoreFull
from bundles.keys import Keyring
from bundles.media.opening import open_media
from bundles.media.split import lay_out, write_volume
from bundles.publish import publish
from tests.support.small_bundles import NOW, blank_release, tree
from tests.unit.bundles.site import Site, blob_of, flip_bit
from tests.unit.bundles.test_recipe_and_build import HEAD, TAIL

FULL = Path("/dev/full")
LOCKED = Path("/sys/leeward")
"""Nobody, root included, makes a folder there."""


class Places:
    """What commands are given: good things, and a path that leads through a file."""

    def __init__(self, folder: Path, medium: Path, keyring: Keyring) -> None:
        self.medium = medium
        self.keys = keyring.directory
        self.fingerprint = keyring.fingerprint
        self.root = self.keys / "1.root.json"
        self.file = folder / "file"
        self.file.write_bytes(b"\xff\xfe no text")
        self.through = self.file / "below"
        self.new = folder / "new"
        self.site = Site.trusting(folder / "site", keyring)
        self.volume = folder / "volume"
        self.site_keys = Keyring.create_site(folder / "site-keys", now=NOW).directory


@pytest.fixture
def places(tmp_path: Path, medium: Path, keyring: Keyring) -> Places:
    return Places(tmp_path, medium, keyring)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bundle, [str(argument) for argument in arguments])


Arguments = Callable[[Places], tuple[object, ...]]

CASES: dict[str, tuple[Arguments, str]] = {
    "anchor --state through a file": (
        lambda at: (("anchor", "--root", at.root, "--fingerprint", at.fingerprint, "--state", at.through)),
        "file-unusable",
    ),
    "anchor --state where nobody may write": (
        lambda at: (("anchor", "--root", at.root, "--fingerprint", at.fingerprint, "--state", LOCKED)),
        "file-unusable",
    ),
    "anchor --update through a file": (
        lambda at: ("anchor", "--update", at.through, "--state", at.site.folder / "trust"),
        "media-missing",
    ),
    "approve --state through a file": (
        lambda at: ("approve", at.medium, "--key", at.file, "--state", at.through),
        "file-unusable",
    ),
    "approvers --state through a file": (lambda at: ("approvers", "--state", at.through), "file-unusable"),
    "build --out through a file": (
        lambda at: ("build", _recipe(at), "--out", at.through / "x", "--keys", at.keys, "--cache", at.new),
        "file-unusable",
    ),
    "build --cache where nobody may write": (
        lambda at: ("build", _recipe(at), "--out", at.new, "--keys", at.keys, "--cache", LOCKED),
        "file-unusable",
    ),
    "build --keys through a file": (
        lambda at: ("build", _recipe(at), "--out", at.new, "--keys", at.through, "--cache", at.new),
        "media-missing",
    ),
    "delta --out through a file": (
        lambda at: ("delta", at.medium, "--inventory", _inventory(at), "--out", at.through / "x"),
        "file-unusable",
    ),
    "delta of no inventory": (
        lambda at: ("delta", at.medium, "--inventory", at.file, "--out", at.new),
        "inventory-invalid",
    ),
    "extract --out through a file": (
        lambda at: ("extract", at.medium, "--root", at.root, "--out", at.through / "x"),
        "store-unusable",
    ),
    "inspect through a file": (lambda at: ("inspect", at.through), "media-missing"),
    "inventory on a full disk": (
        lambda at: ("inventory", "--out", FULL, *_node(at), "--keys", at.site_keys),
        "store-full",
    ),
    "inventory --keys through a file": (
        lambda at: ("inventory", "--out", at.new, *_node(at), "--keys", at.through),
        "media-missing",
    ),
    "keys generate through a file": (lambda at: ("keys", "generate", at.through, "--plain"), "file-unusable"),
    "keys init through a file": (lambda at: ("keys", "init", at.through / "x", "--plain"), "file-unusable"),
    "keys init where nobody may write": (lambda _: ("keys", "init", LOCKED, "--plain"), "file-unusable"),
    "keys revoke in a folder without keys": (lambda at: ("keys", "revoke", at.new, "targets-1"), "media-missing"),
    "keys rotate-root in a folder without keys": (lambda at: ("keys", "rotate-root", at.through), "media-missing"),
    "keys token without a token": (
        lambda at: ("keys", "token", "hsm:2?label=none", "--out", at.new, "--module", at.file),
        "key-locked",
    ),
    "labels --html on a full disk": (lambda at: ("labels", _volume(at), "--html", FULL), "store-full"),
    "receipt add through a file": (
        lambda at: ("receipt", "add", at.through, at.medium, "--act", "burn", "--by", "Ada", "--keys", at.keys),
        "media-missing",
    ),
    "receipt add where nobody may write": (
        lambda at: ("receipt", "add", LOCKED, at.medium, "--act", "burn", "--by", "Ada", "--keys", at.keys),
        "file-unusable",
    ),
    "receipt scan with a tool that is not there": (
        lambda at: ("receipt", "scan", at.new, at.medium, "--command", "/no/such/tool", "--by", "A", "--keys", at.keys),
        "scan-failed",
    ),
    "receipt list through a file": (lambda at: ("receipt", "list", at.through, "--root", at.root), "media-missing"),
    "repair with no request": (
        lambda at: ("repair", at.medium, at.file, "--out", at.new),
        "repair-request-invalid",
    ),
    "repair-request --out on a full disk": (
        lambda at: ("repair-request", _damaged(at), "--out", FULL, "--node", at.new),
        "store-full",
    ),
    "sbom through a file": (lambda at: ("sbom", at.through), "media-missing"),
    "sign against no list": (
        lambda at: ("sign", _pending(at), "--key", at.file, "--against", at.file),
        "content-mismatch",
    ),
    "seal with keys through a file": (lambda at: ("seal", _pending(at), "--keys", at.through), "media-missing"),
    "split --out through a file": (
        lambda at: ("split", at.medium, "--volume-size", "1GB", "--out", at.through),
        "store-unusable",
    ),
    "split --out where nobody may write": (
        lambda at: ("split", at.medium, "--volume-size", "1GB", "--out", LOCKED),
        "store-unusable",
    ),
    "verify --state through a file": (lambda at: ("verify", at.medium, "--state", at.through), "trust-root-missing"),
}


def _recipe(at: Places) -> Path:
    path = at.file.with_name("recipe.toml")
    sections = {"/".join(name.split("/")[:-1]) for name in tree()}
    for name, content in tree().items():
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(content)
    parts = (f'[[contents]]\ninto = "{one}"\nsource = {{ kind = "folder", path = "{one}" }}\n' for one in sections)
    path.write_text(HEAD + "".join(sorted(parts)) + TAIL)
    return path


def _pending(at: Places) -> Path:
    keyring = Keyring.load(at.keys)
    return publish(tree(), blank_release(), keyring, out=at.volume, now=NOW, unsigned=True).folder


def _node(at: Places) -> tuple[object, ...]:
    folder = at.site.folder
    at.site.import_(at.medium)
    return ("--store", folder / "store", "--slots", folder / "slots", "--node", "llm01")


def _inventory(at: Places) -> Path:
    out = at.file.with_name("inventory")
    assert run("inventory", "--out", out, *_node(at), "--keys", at.site_keys).exit_code == 0
    return out


def _damaged(at: Places) -> Path:
    flip_bit(blob_of(at.medium, "licenses/target/LICENSE"), 1)
    return at.medium


def _volume(at: Places) -> Path:
    layout = lay_out(open_media([at.medium]), volume_bytes=10**9, parity=0)
    write_volume(layout, layout.headers[0], at.volume)
    return at.volume


@pytest.mark.parametrize(("arguments", "code"), CASES.values(), ids=CASES)
def test_a_path_that_cannot_be_used_is_an_error_with_a_remedy(places: Places, arguments: Arguments, code: str) -> None:
    result = run(*arguments(places), "--json")

    assert isinstance(result.exception, SystemExit), result.exception
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    (error,) = [event for event in events if event["event"] == "error"]
    assert error["code"] == code, error
    assert error["detail"]
    assert error["remedy"]
    assert result.exit_code in {2, 3, 4}
    assert not places.new.exists() or not list(places.new.iterdir())
    assert not LOCKED.exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO, errno.ENOENT, errno.EMFILE, errno.EBUSY])
def test_each_refusal_names_the_path_and_its_own_remedy(number: int) -> None:
    error = told(OSError(number, "as the kernel says", "/media/stick"))

    assert isinstance(error, FileUnusable)
    assert error.detail == "/media/stick: as the kernel says"
    assert error.remedy.endswith(".")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_full(number: int) -> None:
    error = told(OSError(number, "full", "a", None, "b"))

    assert isinstance(error, StoreFull)
    assert error.detail == "a and b: full"


def test_who_stops_reading_ends_a_command_without_an_error(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_arguments: object, **_values: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(Voice, "say", gone)
    monkeypatch.setattr(Voice, "fail", lambda *_: pytest.fail("it was told as an error"))

    result = run("inspect", places.medium)

    assert (result.exit_code, result.output) == (1, "")


def test_a_scanners_line_that_is_no_command_is_a_usage_error(places: Places) -> None:
    result = run("receipt", "scan", places.new, places.medium, "--command", 'a "b', "--by", "A", "--keys", places.keys)

    assert result.exit_code == 2
    assert "No closing quotation" in result.output
    assert not places.new.exists()
