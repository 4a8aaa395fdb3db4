from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles import tiny
from tests.compat.engines import RunningEngine, build_environment, build_wheelhouse, served


@pytest.fixture(scope="session")
def engine_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_environment(build_wheelhouse(tmp_path_factory.mktemp("wheelhouse")))


@pytest.fixture(scope="session")
def running_engine(engine_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    weights = tmp_path_factory.mktemp("weights")
    tiny.write_target(weights / "target")
    tiny.write_draft(weights / "draft")
    with served(engine_environment, weights, tmp_path_factory.mktemp("engine")) as engine:
        yield engine
