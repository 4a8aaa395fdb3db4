"""The real engine on the CPU: its environment built from our wheelhouse, and one running server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from appliance.adapters.vllm import VllmEngine
from appliance.domain.engine import EngineSpec
from bundles.codec import from_plain
from bundles.release import EngineRelease
from bundles.sources import SourceContext, make_source
from bundles.sources.wheelhouse import sha256_of

CHECKOUT = Path(__file__).parents[2]
RECIPES = CHECKOUT / "bundles" / "recipes"
CACHE = CHECKOUT / ".cache"
BUILD = CHECKOUT / ".build"
START_TIMEOUT_S = 400  # 25 s on idle cores, two minutes on very busy ones
STOP_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEngine:
    """A served pair: the adapter, its socket, the process, and how long the start took."""

    engine: VllmEngine
    socket: Path
    pid: int
    log: Path
    ready_after_s: float


def recipe(name: str) -> dict[str, object]:
    return tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))


def engine_release(name: str) -> EngineRelease:
    table = recipe(name)["engine"]
    assert isinstance(table, dict)
    return from_plain({"gpu_memory_utilization": None} | table, EngineRelease)


def build_wheelhouse(into: Path) -> Path:
    """Fill `into` from the tiny recipe's engine source, through the checkout's wheel cache."""
    context = SourceContext(recipe_folder=RECIPES, cache=CACHE, progress=lambda *_: None)
    (table,) = [c["source"] for c in recipe("tiny")["contents"] if c["into"] == "engine"]  # type: ignore[attr-defined]  # TOML
    into.mkdir(parents=True, exist_ok=True)
    make_source(table, context).fetch(into)
    return into


def build_environment(wheelhouse: Path) -> Path:
    """Make `.build/engine-env` as a node does: no index, no resolver, every hash checked.

    An environment whose stamp names the same lock is used again.
    """
    environment = BUILD / "engine-env"
    stamp = environment / "lock.sha256"
    lock = wheelhouse / "requirements.lock"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == sha256_of(lock):
        return environment
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    run([str(base), "-m", "venv", "--clear", str(environment)])
    run(
        [
            str(environment / "bin" / "pip"), "install", "--quiet", "--no-index", "--no-deps", "--require-hashes",
            "--find-links", str(wheelhouse / "wheels"), "--requirement", str(lock),
        ]
    )  # fmt: skip
    stamp.write_text(sha256_of(lock), encoding="utf-8")
    return environment


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr[-2000:]


@contextmanager
def served(environment: Path, weights: Path, scratch: Path) -> Iterator[RunningEngine]:
    """Serve `weights/{target,draft}` with the arguments and environment that a node gets."""
    socket, log = scratch / "engine.sock", scratch / "engine.log"
    spec = EngineSpec(
        engine=engine_release("tiny"),
        target=PurePosixPath(weights / "target"),
        draft=PurePosixPath(weights / "draft"),
        socket=PurePosixPath(socket),
        cache=PurePosixPath(BUILD / "engine-cache"),
    )
    Path(spec.cache).mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(environment / "bin" / "vllm"), *spec.arguments],
            env=spec.environment | {"PATH": "/usr/bin:/bin"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    engine = VllmEngine(socket)
    try:
        while not engine.health().live:
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() - begun < START_TIMEOUT_S, log.read_text(errors="replace")[-3000:]
            time.sleep(0.5)
        yield RunningEngine(
            engine=engine, socket=socket, pid=process.pid, log=log, ready_after_s=time.monotonic() - begun
        )
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started: politely, then surely."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
