"""Settings that hold for all tests, and the real engine that those share which ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.compat.engines import RunningEngine

settings.register_profile("leeward", deadline=None)  # a busy machine is no defect; pytest's timeout stays
settings.load_profile("leeward")


@pytest.fixture(scope="session")
def engine_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.compat.engines import build_environment, build_wheelhouse  # noqa: PLC0415  few tests need what it loads

    return build_environment(build_wheelhouse(tmp_path_factory.mktemp("wheelhouse")))


@pytest.fixture(scope="session")
def running_engine(engine_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    from bundles import tiny  # noqa: PLC0415  few tests need what it loads
    from tests.compat.engines import served  # noqa: PLC0415  the same

    weights = tmp_path_factory.mktemp("weights")
    tiny.write_target(weights / "target")
    tiny.write_draft(weights / "draft")
    with served(engine_environment, weights, tmp_path_factory.mktemp("engine")) as engine:
        yield engine
