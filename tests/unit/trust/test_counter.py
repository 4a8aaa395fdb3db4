"""No old disk image is trusted again: a real TPM 2.0 (swtpm, an emulator of the whole chip) counts along."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundles import counter as counters
from bundles.ceremony import renew
from bundles.cli import bundle, reading
from bundles.counter import INDEX, NodeCounter, TpmCounter
from bundles.errors import LeewardError, RollbackRefused, TrustRootMissing
from bundles.keys import Keyring
from bundles.layout import open_bundle
from bundles.trust import TrustStore
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site

SWTPM = "/usr/bin/swtpm"


@pytest.fixture
def transmit(tmp_path: Path) -> Iterator[Callable[[bytes], bytes]]:
    """A fresh TPM that answers raw commands, as the kernel's resource manager does."""
    if not Path(SWTPM).is_file():
        pytest.fail(f"{SWTPM} is missing: apt-get install swtpm")
    folder = tmp_path / "tpm"
    folder.mkdir()
    places = ["--tpmstate", f"dir={folder}", "--server", f"type=unixio,path={folder}/server"]
    places += ["--ctrl", f"type=unixio,path={folder}/control"]
    process = subprocess.Popen([SWTPM, "socket", "--tpm2", *places, "--flags", "not-need-init,startup-clear"])
    try:
        deadline = time.monotonic() + 20
        while not (folder / "server").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(folder / "server"))
            connection.settimeout(20)

            def send(command: bytes) -> bytes:
                connection.sendall(command)
                return connection.recv(4096)

            yield send
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def counter(transmit: Callable[[bytes], bytes]) -> TpmCounter:
    return TpmCounter(transmit)


@pytest.fixture
def bound(site: Site, counter: TpmCounter) -> TrustStore:
    """The site's trust, with the TPM counting along."""
    counter.define()
    store = TrustStore(site.folder / "trust", counter=counter)
    store.bind(counter.read())
    return store


def release_at(tmp_path: Path, keyring: Keyring, epoch: int) -> Path:
    release = blank_release(epoch=epoch, version=f"26.11.{epoch}")
    return write_bundle(tmp_path / f"medium-{epoch}", keyring, release=release, files=tree(seed=epoch)).folder


def accept(store: TrustStore, medium: Path) -> None:
    store.check(open_bundle(medium), now=NOW).commit()


def test_the_counter_only_grows_also_when_it_is_defined_again(
    counter: TpmCounter, transmit: Callable[[bytes], bytes]
) -> None:
    assert not counter.is_defined()
    counter.define()
    first = counter.read()
    for _ in range(3):
        counter.increment()
    counter.define()
    assert counter.read() == first + 3

    undefine = struct.pack(">IIIIHBH", 0x4000_0001, INDEX, 9, 0x4000_0009, 0, 0, 0)
    answer = transmit(struct.pack(">HII", 0x8002, 10 + len(undefine), 0x122) + undefine)
    assert answer[6:10] == bytes(4)
    assert not counter.is_defined()
    counter.define()

    assert counter.read() > first + 3


def test_an_old_disk_image_is_refused(tmp_path: Path, keyring: Keyring, site: Site, bound: TrustStore) -> None:
    trust = site.folder / "trust"
    accept(bound, release_at(tmp_path, keyring, 1))
    shutil.copytree(trust, tmp_path / "image", symlinks=True)
    accept(bound, release_at(tmp_path, keyring, 2))

    shutil.rmtree(trust)
    shutil.copytree(tmp_path / "image", trust, symlinks=True)

    with pytest.raises(RollbackRefused, match="an older disk image was brought back"):
        bound.check(open_bundle(tmp_path / "medium-1"), now=NOW)
    with pytest.raises(RollbackRefused):
        bound.follow(keyring.roots(), now=NOW)
    assert bound.policy is not None
    assert bound.policy.epoch == 1


def test_a_state_from_before_the_counter_or_anchored_anew_is_refused(
    tmp_path: Path, keyring: Keyring, site: Site, bound: TrustStore
) -> None:
    shutil.rmtree(site.folder / "trust")
    Site.trusting(site.folder, keyring)

    with pytest.raises(RollbackRefused, match="number unknown"):
        bound.check(open_bundle(release_at(tmp_path, keyring, 1)), now=NOW)


class Killed(BaseException):
    """The process ends here."""


def test_a_kill_between_the_state_and_the_tpm_is_mended(
    tmp_path: Path, keyring: Keyring, site: Site, counter: TpmCounter, bound: TrustStore
) -> None:
    class Dying:
        def read(self) -> int:
            return counter.read()

        def increment(self) -> None:
            raise Killed

    before = counter.read()
    with pytest.raises(Killed):
        accept(TrustStore(site.folder / "trust", counter=Dying()), release_at(tmp_path, keyring, 1))
    assert counter.read() == before

    accept(bound, tmp_path / "medium-1")
    assert counter.read() == before + 1
    accept(bound, release_at(tmp_path, keyring, 2))
    assert counter.read() == before + 2
    assert bound.policy is not None
    assert bound.policy.epoch == 2


def test_the_same_again_is_not_counted_and_a_revocation_is(
    tmp_path: Path, keyring: Keyring, counter: TpmCounter, bound: TrustStore
) -> None:
    verified = bound.check(open_bundle(release_at(tmp_path, keyring, 1)), now=NOW)
    verified.commit()
    counted = counter.read()
    verified.commit()
    bound.bind(counter.read())
    assert counter.read() == counted

    renew(keyring, "targets-1", now=NOW)
    bound.follow(keyring.roots(), now=NOW)
    assert counter.read() == counted + 1


def test_binding_needs_an_anchor(tmp_path: Path, counter: TpmCounter) -> None:
    counter.define()
    with pytest.raises(TrustRootMissing):
        TrustStore(tmp_path / "empty").bind(counter.read())


def answers(*codes: int, body: bytes = b"") -> TpmCounter:
    given = iter(codes)
    return TpmCounter(lambda _command: struct.pack(">HII", 0x8001, 10, next(given)) + body)


def fails(_command: bytes) -> bytes:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (TpmCounter(fails), "does not answer: Input/output error"),
        (TpmCounter(lambda _command: b"\x80\x01"), "has 2 bytes"),
        (answers(0x101), "code 0x101"),
        (answers(0, body=struct.pack(">HIHI", 14, INDEX, 11, 0x2)), "is no counter"),
    ],
)
def test_a_tpm_that_cannot_be_asked_stops_the_import(broken: TpmCounter, match: str) -> None:
    with pytest.raises(TrustRootMissing, match=match) as caught:
        broken.is_defined()

    assert isinstance(caught.value, LeewardError)


def through(path: Path, transmit: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> NodeCounter:
    """Let the device at `path` be the TPM; only the kernel's way to it is left out."""
    path.write_bytes(b"")
    monkeypatch.setattr(counters, "_exchange", lambda _device, command: transmit(command))
    return NodeCounter(path)


def test_a_node_without_a_tpm_has_no_counter_and_imports(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    none = NodeCounter(tmp_path / "none")
    store = TrustStore(site.folder / "trust", counter=none)

    accept(store, release_at(tmp_path, keyring, 1))

    assert none.tpm() is None
    assert none.read() is None
    with pytest.raises(TrustRootMissing, match="is gone"):
        none.increment()


def test_a_tpm_that_was_cleared_does_not_free_an_old_disk(
    tmp_path: Path, keyring: Keyring, site: Site, bound: TrustStore
) -> None:
    accept(bound, release_at(tmp_path, keyring, 1))
    cleared = TrustStore(site.folder / "trust", counter=NodeCounter(tmp_path / "none"))

    with pytest.raises(RollbackRefused, match="has no counter any more"):
        accept(cleared, release_at(tmp_path, keyring, 2))


def test_a_tpm_without_the_counter_is_not_in_force(
    tmp_path: Path,
    keyring: Keyring,
    site: Site,
    transmit: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = through(tmp_path / "device", transmit, monkeypatch)

    accept(TrustStore(site.folder / "trust", counter=node), release_at(tmp_path, keyring, 1))

    assert node.read() is None


def test_the_devices_file_is_written_a_command_and_read_for_its_answer(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"")

    with pytest.raises(TrustRootMissing, match="has 0 bytes"):  # a plain file gives nothing back
        NodeCounter(device).read()

    assert device.read_bytes() == struct.pack(">HIII", 0x8001, 14, 0x169, INDEX)


def test_the_command_line_binds_the_tpm_and_follows_with_it(
    tmp_path: Path,
    keyring: Keyring,
    site: Site,
    transmit: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = site.folder / "trust"
    monkeypatch.setattr(reading, "DEFAULT_STATE", state)
    monkeypatch.setattr(reading, "TPM", tmp_path / "device")

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(bundle, ["anchor", "--state", str(state), *map(str, arguments)])
        return result.exit_code, result.output

    status, said = run("--tpm")
    assert status == 4
    assert "has no TPM" in said

    node = through(tmp_path / "device", transmit, monkeypatch)
    assert run("--tpm")[0] == 0
    counted = node.read()
    assert counted is not None
    renew(keyring, "targets-1", now=NOW)
    assert run("--update", keyring.directory)[0] == 0
    assert node.read() == counted + 1
