"""What a node says about its store: true, signed, readable; and what is refused to be read."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import pytest

from bundles import codec
from bundles.delta import blocks, inventory
from bundles.delta.blocks import from_blocks, to_blocks
from bundles.delta.inventory import Chunk, HeldFile, Inventory, read_inventory, sign_inventory
from bundles.delta.take import take_inventory
from bundles.digest import sha256_hex
from bundles.errors import Canceled, InventoryInvalid, LeewardError, MediaMissing, SignatureRefused
from bundles.keys import Keyring
from tests.support.small_bundles import NOW
from tests.unit.bundles.site import flip_bit
from tests.unit.delta.conftest import SHARD, Journey
from tests.unit.delta.weights import many, safetensors_file


@pytest.fixture(scope="session")
def site_keys(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.create_site(tmp_path_factory.mktemp("node") / "keys", now=NOW)


@pytest.fixture
def taken(journey: Journey) -> Inventory:
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    return journey.inventory()


def test_an_inventory_names_every_file_and_every_tensor_with_its_digest(taken: Inventory) -> None:
    (shard,) = (held for held in taken.files if held.path == SHARD)
    content = safetensors_file(many())

    assert shard.sha256 == sha256_hex(content)
    assert len(taken.files) == 7  # the two params.json have the same bytes
    assert [held.slot for held in taken.releases] == ["26.11.1-e1"]
    assert taken.damaged == ()
    digests = {chunk.sha256 for chunk in shard.chunks}
    assert digests >= {sha256_hex(tensor) for tensor in many().values()}
    for chunk in shard.chunks:
        assert sha256_hex(content[chunk.offset : chunk.offset + chunk.length]) == chunk.sha256


@pytest.mark.parametrize("spoil", ["bit", "header", "gone", "short"])
def test_a_damaged_file_is_listed_as_damaged_and_not_as_held(journey: Journey, taken: Inventory, spoil: str) -> None:
    (shard,) = (held for held in taken.files if held.path == SHARD)
    place = journey.stored(shard.sha256)
    place.chmod(0o644)
    match spoil:
        case "bit":
            flip_bit(place, 9000)
        case "header":
            flip_bit(place, 7)
        case "gone":
            place.unlink()
        case "short":
            place.write_bytes(place.read_bytes()[:-1])

    found = journey.inventory()

    assert found.damaged == (shard.sha256,)
    assert shard.sha256 not in {held.sha256 for held in found.files}


def test_a_file_that_shrinks_while_it_is_read_is_damaged(
    journey: Journey, taken: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("bundles.delta.take.read_into", lambda *_: 0)
    assert len(journey.inventory().damaged) == 6  # all but the empty one
    monkeypatch.setattr("bundles.delta.take.read_into", fails)
    assert len(journey.inventory().damaged) == 6  # all but the empty one
    assert taken.damaged == ()


def test_a_slot_that_is_being_built_is_not_counted(journey: Journey, taken: Inventory) -> None:
    (journey.site.folder / "slots" / ".26.11.2-e2.partial").mkdir()
    (journey.site.folder / "slots" / "current").symlink_to("26.11.1-e1")

    assert journey.inventory() == taken


def test_slots_that_cannot_be_read_are_an_error(journey: Journey, taken: Inventory) -> None:
    (journey.site.folder / "slots" / "26.11.1-e1" / "release.json").unlink()

    with pytest.raises(MediaMissing, match=r"release\.json"):
        journey.inventory()
    with pytest.raises(MediaMissing, match="nowhere"):
        take_inventory(store=journey.folder, slots=journey.folder / "nowhere", node="n", now=NOW)
    assert taken.releases


def test_taking_can_be_canceled(journey: Journey, taken: Inventory) -> None:
    places = {"store": journey.site.folder / "store", "slots": journey.site.folder / "slots"}

    with pytest.raises(Canceled):
        take_inventory(**places, node="n", now=NOW, is_canceled=lambda: True)
    assert taken.node == "n1"


def test_a_signed_inventory_comes_back_with_the_name_of_its_key(taken: Inventory, site_keys: Keyring) -> None:
    content = sign_inventory(taken, site_keys)

    assert read_inventory(content).inventory == taken
    assert read_inventory(content).signed_by == ()
    assert read_inventory(content, root=site_keys.root).signed_by == ("targets-1",)


def test_an_inventory_of_another_site_or_with_a_changed_byte_is_refused(
    taken: Inventory, site_keys: Keyring, keyring: Keyring
) -> None:
    content = sign_inventory(taken, site_keys)

    with pytest.raises(SignatureRefused):
        read_inventory(content, root=keyring.root)
    changed = sign_inventory(replace(taken, node="n2"), site_keys)
    spliced = codec.parse_json(content)
    assert isinstance(spliced, dict)
    other = codec.parse_json(changed)
    assert isinstance(other, dict)
    with pytest.raises(SignatureRefused):
        read_inventory(codec.canonical_json(spliced | {"payload": other["payload"]}), root=site_keys.root)


def envelope(payload: bytes, kind: str = inventory.PAYLOAD_TYPE) -> bytes:
    text = base64.b64encode(payload).decode()
    return codec.canonical_json({"payload": text, "payloadType": kind, "signatures": []})


def plain(**changed: object) -> bytes:
    blank = Inventory(schema=inventory.SCHEMA, node="n", created_at=NOW, releases=(), damaged=(), files=())
    fields = codec.to_plain(blank)
    assert isinstance(fields, dict)
    return codec.canonical_json(fields | changed)


FILE = {"path": "playbooks/a", "size_bytes": 5, "sha256": "0" * 64, "chunks": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"payload":1,"payloadType":"x","signatures":[]}',
        b'{"payload":"!","payloadType":"x","signatures":[]}',
        b'{"payload":"","payloadType":"x","signatures":7}',
        b'{"payload":"","payloadType":"x","signatures":[{"sig":"!"}]}',
        b'{"payload":"","payloadType":"x","signatures":[{}]}',
        envelope(b"{}", "text/plain"),
        envelope(b"{}", "\u00e9"),
        envelope(b"{}"),
        envelope(b"[]"),
        envelope(plain(schema="leeward-inventory/2")),
        envelope(plain(damaged=["../../etc/passwd"])),
        envelope(plain(releases=[{"slot": "a", "release_sha256": "A" * 64}])),
        envelope(plain(files=[FILE | {"path": "../escape"}])),
        envelope(plain(files=[FILE | {"size_bytes": -1}])),
        envelope(plain(files=[FILE | {"sha256": "x"}])),
        envelope(plain(files=[FILE | {"chunks": [{"offset": 0, "length": 6, "sha256": "0" * 64}]}])),
        envelope(plain(files=[FILE | {"chunks": [{"offset": -1, "length": 2, "sha256": "0" * 64}]}])),
        envelope(plain(files=[FILE | {"chunks": [{"offset": 0, "length": 0, "sha256": "0" * 64}]}])),
        envelope(plain(files=[FILE | {"chunks": [{"offset": 0, "length": 1, "sha256": "../x"}]}])),
    ],
)
def test_what_is_no_inventory_is_refused_with_words(content: bytes) -> None:
    with pytest.raises(InventoryInvalid) as caught:
        read_inventory(content)

    assert caught.value.remedy


def test_absurd_inventories_are_refused_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MAX_INVENTORY_BYTES", 100)
    with pytest.raises(InventoryInvalid, match="100 are allowed"):
        read_inventory(envelope(plain()))
    monkeypatch.undo()
    monkeypatch.setattr(inventory, "MAX_CHUNKS", 0)
    file = HeldFile(path="a", size_bytes=1, sha256="0" * 64, chunks=(Chunk(offset=0, length=1, sha256="0" * 64),))
    with pytest.raises(ValueError, match="more than"):
        Inventory(schema=inventory.SCHEMA, node="n", created_at=NOW, releases=(), damaged=(), files=(file,))


def test_an_inventory_survives_the_way_through_codes_in_any_order(taken: Inventory, site_keys: Keyring) -> None:
    content = sign_inventory(taken, site_keys)
    lines = to_blocks(content)

    assert len(lines) > 3
    assert all(len(line) < 1050 and line == line.upper() for line in lines)
    assert from_blocks("\n".join(reversed(lines)) + "\n\n" + lines[0]) == content


def test_a_receipt_fits_into_a_code_or_two(taken: Inventory, site_keys: Keyring) -> None:
    receipt = sign_inventory(replace(taken, files=()), site_keys)

    assert len(to_blocks(receipt)) <= 2


def spoiled(lines: tuple[str, ...], how: str) -> str:
    match how:
        case "missing":
            return "\n".join(lines[:-1])
        case "mixed":
            return "\n".join([*lines[:-1], to_blocks(b"other" * 4000)[0]])
        case "count":
            return "\n".join([*lines, lines[0].replace(" 1/", " 99/", 1)])
        case "letter":
            return "\n".join([lines[0][:-1] + ("A" if lines[0][-1] != "A" else "B"), *lines[1:]])
        case "noise":
            return "hello"
        case _:
            return ""


@pytest.mark.parametrize("how", ["missing", "mixed", "count", "letter", "noise", "empty"])
def test_spoiled_codes_are_refused(taken: Inventory, site_keys: Keyring, how: str) -> None:
    lines = to_blocks(sign_inventory(taken, site_keys))

    with pytest.raises(InventoryInvalid):
        from_blocks(spoiled(lines, how))


def packed(compressed: bytes, mark: str = "00000000") -> str:
    return f"{blocks.PREFIX} 1/1 {mark} {base64.b32encode(compressed).decode()}"


@pytest.mark.parametrize(
    "line",
    [
        packed(zlib.compress(b"x")),  # of another digest than it says
        packed(zlib.compress(b"x")[:-2]),
        packed(zlib.compress(b"x") + b"more"),
        f"{blocks.PREFIX} 1/1 00000000 AAA",
    ],
)
def test_codes_that_do_not_unpack_are_refused(line: str) -> None:
    with pytest.raises(InventoryInvalid):
        from_blocks(line)


def test_a_decompression_bomb_is_refused_before_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_INVENTORY_BYTES", 10_000)

    with pytest.raises(InventoryInvalid, match="does not end"):
        from_blocks(packed(zlib.compress(bytes(500_000), 9)))


def test_too_many_codes_are_refused() -> None:
    with pytest.raises(LeewardError, match="codes"):
        to_blocks(b"".join(sha256_hex(bytes([n % 256, n // 256])).encode() for n in range(20_000)))
