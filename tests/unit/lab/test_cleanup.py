"""What a sweep may remove; nothing here touches the machine."""

from __future__ import annotations

from pathlib import Path

from tests.lab.cleanup import Found, mounts_under, stale
from tests.lab.loop import LoopDevice
from tests.lab.names import Names

ROOT = Path("/srv/lab")
NAMES = Names(root=ROOT)


def loop(number: int, backing: str) -> LoopDevice:
    return LoopDevice(device=Path(f"/dev/loop{number}"), backing=ROOT / backing)


FOUND = Found(
    namespaces=frozenset({NAMES.controller, NAMES.node("n1"), NAMES.node("n2")}),
    groups=frozenset({NAMES.node("n1"), NAMES.node("n2")}),
    loops=(loop(1, "nodes/n1/disk.raw"), loop(2, "nodes/n2/medium.raw")),
    mounts=(ROOT / "nodes/n1/root", ROOT / "nodes/n2/root"),
    nodes=frozenset({"n1", "n2"}),
)


def test_without_a_kept_node_everything_of_the_lab_is_stale() -> None:
    assert stale(FOUND, names=NAMES, kept=()) == FOUND


def test_nothing_of_a_kept_node_is_stale_nor_is_the_controllers_namespace() -> None:
    left = stale(FOUND, names=NAMES, kept=["n1"])

    assert left == Found(
        namespaces=frozenset({NAMES.node("n2")}),
        groups=frozenset({NAMES.node("n2")}),
        loops=(loop(2, "nodes/n2/medium.raw"),),
        mounts=(ROOT / "nodes/n2/root",),
        nodes=frozenset({"n2"}),
    )


def test_a_node_whose_name_begins_like_a_kept_one_is_not_spared() -> None:
    found = Found(nodes=frozenset({"n1", "n11"}), loops=(loop(3, "nodes/n11/disk.raw"),))

    left = stale(found, names=NAMES, kept=["n1"])

    assert left == Found(nodes=frozenset({"n11"}), loops=(loop(3, "nodes/n11/disk.raw"),))


def test_an_empty_look_leaves_nothing_to_do() -> None:
    assert stale(Found(), names=NAMES, kept=["n1"]).is_empty()


def test_mounts_are_found_deepest_first_and_only_under_the_lab() -> None:
    mountinfo = (
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "90 27 7:1 / /srv/lab/nodes/n1/root rw shared:1 - ext4 /dev/loop1 rw\n"
        "91 90 0:40 / /srv/lab/nodes/n1/root/my\\040dir rw - tmpfs tmpfs rw\n"
        "92 27 7:2 / /srv/laboratory/root rw - ext4 /dev/loop2 rw\n"
    )

    assert mounts_under(ROOT, mountinfo=mountinfo) == (
        ROOT / "nodes/n1/root/my dir",
        ROOT / "nodes/n1/root",
    )
