"""Content capture through the management API and the command line of a real daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.client import ApplianceClient
from appliance.config import Paths
from appliance.domain.errors import NotPermitted
from bundles import private_keys
from tests.api.conftest import CHECKOUT, DaemonProcess


async def test_an_administrator_switches_capture_on_and_off_and_others_see_it(
    daemon: DaemonProcess, client: ApplianceClient, tmp_path: Path
) -> None:
    public = tmp_path / "auditor.pub"
    public.write_bytes(private_keys.public_pem(private_keys.generate(private_keys.ECDSA).public_key))

    def leeward(*words: str) -> str:
        command = [sys.executable, "-m", "appliance.entrypoints.cli", "--socket", str(daemon.socket), "capture", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=CHECKOUT, timeout=60).stdout

    assert leeward("show") == "Nothing is captured.\n"
    said = leeward("on", "--for", str(public), "--reason", "Audit 7", "--days", "3")
    order = await client.capture()
    assert order is not None
    assert order.auditor in said
    assert (order.until - order.since).days == 3
    assert "Audit 7" in leeward("show")
    daemon.roles("operator")
    assert await client.capture() == order
    for change in (client.capture_off(), client.capture_on(auditor_pem=public.read_text(), reason="x", lasts_s=9)):
        with pytest.raises(NotPermitted):
            await change
    daemon.roles("admin")
    assert "Nothing" in leeward("off")
    assert await client.capture() is None
    assert not Paths(root=daemon.root).capture_order.exists()
    acts = [(entry.action, entry.outcome) for entry in await client.audit(0, 100)]
    assert acts == [(f"capture.{what}", outcome) for what in ("on", "off") for outcome in ("begun", "succeeded")]
