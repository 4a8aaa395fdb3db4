"""The node of the tests of health."""

from __future__ import annotations

import pytest

from tests.unit.health.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
