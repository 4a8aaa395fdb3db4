from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.clients.gateways import Door, opened

if TYPE_CHECKING:
    from tests.compat.engines import RunningEngine


@pytest.fixture(scope="session")
def door(running_engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The real engine behind the real gateway."""
    with opened(running_engine.socket, tmp_path_factory.mktemp("gateway")) as door:
        yield door
