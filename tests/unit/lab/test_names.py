from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.errors import LabFailed
from tests.lab.names import MAX_NODES, Names, address, mac

NAMES = Names(root=Path("/srv/checkout/.build/lab"))


def test_every_outside_name_carries_the_labs_prefix() -> None:
    outside = (NAMES.controller, NAMES.node("n1"))

    assert all(name.startswith(NAMES.prefix) and name.startswith("lwd-") for name in outside)


def test_two_folders_share_no_name() -> None:
    other = Names(root=Path("/srv/other/.build/lab"))

    assert not NAMES.node("n1").startswith(other.prefix)
    assert NAMES.controller != other.controller


@pytest.mark.parametrize("name", ["", "ctl", "N1", "1n", "n_1", "../n1", "n1 ", "a" * 17])
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(LabFailed, match="no node name"):
        NAMES.node(name)


def test_no_two_nodes_share_an_address_and_none_has_the_controllers() -> None:
    addresses = {address(index) for index in range(1, MAX_NODES)}

    assert len(addresses) == MAX_NODES - 1
    assert "10.88.0.1" not in addresses
    assert all(0 < int(one.rpartition(".")[2]) < 255 for one in addresses)
    assert len({mac(index) for index in range(1, MAX_NODES)}) == MAX_NODES - 1
