"""A daemon process that tests may kill, and clients of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.client import ApplianceClient
from appliance.config import Paths

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class DaemonProcess:
    """`tests.api.daemon` on one root; start it as often as it dies."""

    root: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return Paths(root=self.root).management_socket

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "tests.api.daemon", str(self.root)], cwd=CHECKOUT)
        self.until(self.answers, 30)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def let(self, step: str, what: str = "go") -> None:
        (self.root / f"{step}.{what}").touch()

    def runs(self, step: str) -> int:
        file = self.root / f"{step}.runs"
        return len(file.read_text()) if file.exists() else 0

    def roles(self, words: str) -> None:
        (self.root / "roles").write_text(words)

    def until(self, condition: Callable[[], bool], timeout_s: float = 10) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, "waited too long"
            time.sleep(0.02)


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with tempfile.TemporaryDirectory(prefix="lwd") as folder:  # a socket's path has 107 bytes at most
        daemon = DaemonProcess(Path(folder))
        daemon.start()
        yield daemon
        if daemon.process is not None and daemon.process.poll() is None:
            os.kill(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait(10)


@pytest.fixture
async def client(daemon: DaemonProcess) -> AsyncIterator[ApplianceClient]:
    async with ApplianceClient(daemon.socket) as client:
        yield client
