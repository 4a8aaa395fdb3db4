"""A gateway process of its own before an engine, as real clients meet it: TLS, a key, a ledger."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.domain.usage import UsageRecord
from tests.support.certificates import make_loopback_tls

MODEL = "mistral-medium-3.5"
START_TIMEOUT_S = 60
GATEWAY = "from appliance.entrypoints.gateway import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where clients knock, what they show, and the ledger behind it."""

    url: str
    authority: Path
    secret: str
    usage: SqlUsageReader
    keys: SqlKeyRegister

    def secret_of(self, team: str) -> str:
        """Make another team's key."""
        return self.keys.create(name="clients", team=team, at=datetime.now(UTC))[1]

    def records(self) -> list[UsageRecord]:
        return [record for _, record in self.usage.records()]

    @property
    def newest(self) -> UsageRecord:
        return self.records()[-1]


@contextmanager
def opened(engine_socket: Path, folder: Path) -> Iterator[Door]:
    """Run a gateway in `folder` for the engine behind that socket."""
    ledger = folder / "ledger.db"
    create_ledger(ledger, os.getuid(), os.getgid())
    database = open_ledger(ledger)
    keys = SqlKeyRegister(database)
    _, secret = keys.create(name="clients", team="research", at=datetime.now(UTC))
    tls = make_loopback_tls(folder)
    port = _free_port()
    options = {
        "--socket": engine_socket, "--ledger": ledger, "--tls-cert": tls.certificate, "--tls-key": tls.key,
        "--host": "127.0.0.1", "--port": port, "--served-model": MODEL,
    }  # fmt: skip
    log = folder / "gateway.log"
    with log.open("wb") as output:
        gateway = subprocess.Popen(
            [sys.executable, "-c", GATEWAY, *(str(part) for option in options.items() for part in option)],
            stdout=output, stderr=output, env=os.environ | {"LEEWARD_ROOT": str(folder)},
        )  # fmt: skip
    try:
        _wait_for(port, gateway, log)
        yield Door(
            url=f"https://127.0.0.1:{port}",
            authority=tls.authority,
            secret=secret,
            usage=SqlUsageReader(database),
            keys=keys,
        )
    finally:
        gateway.terminate()
        gateway.wait(60)
        database.dispose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, gateway: subprocess.Popen[bytes], log: Path) -> None:
    begun = time.monotonic()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert gateway.poll() is None, log.read_text()
            assert time.monotonic() - begun < START_TIMEOUT_S, log.read_text()
            time.sleep(0.05)
        else:
            return
