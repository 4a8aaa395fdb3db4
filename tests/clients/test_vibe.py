"""Mistral Vibe, with the very file that `leeward client-config vibe` prints, edits a file.

The engine behind the gateway is a script here, not a model (`scripted_engine` says why); Vibe, its
tools, TLS, the gateway and the ledger are real. Vibe needs Python 3.12 and pins of its own, so it
lives in an environment of its own (`environments`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.domain.usage import UsageState
from bundles.tiny import SENTENCE
from tests.clients.environments import environment
from tests.clients.gateways import MODEL, Door, opened
from tests.clients.scripted_engine import COMPLETION_TOKENS, LAST_WORDS

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]


def test_vibe_edits_a_file_with_the_printed_configuration(tmp_path: Path) -> None:
    vibe = environment("vibe") / "bin" / "vibe"
    work, home, log = tmp_path / "work", tmp_path / "home", tmp_path / "engine.log"
    for folder in (work, home):
        folder.mkdir()
    poem = work / "poem.txt"
    poem.write_text("The wind is calm.\n")
    arguments = ["-m", "tests.clients.scripted_engine", tmp_path / "engine.sock", log, poem, "calm", "strong"]
    with subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE) as engine:
        try:
            assert engine.stdout is not None
            assert engine.stdout.readline() == b"ready\n"
            with opened(tmp_path / "engine.sock", tmp_path) as door:
                done = run_vibe(vibe, door, work=work, home=home, prompt="Change calm to strong.")
                records = door.records()
        finally:
            engine.terminate()

    requests = [json.loads(line) for line in log.read_text().splitlines()]
    agent = [each for each in requests if each["tools"]]
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert poem.read_text() == "The wind is strong.\n"
    assert LAST_WORDS in done.stdout
    assert [each["turn"] for each in agent] == [0, 1, 2]
    assert {each["effort"] for each in agent} == {"high"}
    assert len(records) == len(requests)
    assert {record.state for record in records} == {UsageState.SETTLED}
    assert {record.usage.completion_tokens for record in records} == {COMPLETION_TOKENS}


def test_vibe_streams_from_the_real_engine_and_is_metered(door: Door, tmp_path: Path) -> None:
    vibe = environment("vibe") / "bin" / "vibe"
    work, home = tmp_path / "work", tmp_path / "home"
    for folder in (work, home):
        folder.mkdir()
    (work / "poem.txt").write_text("The wind is calm.\n")
    before = len(door.records())

    done = run_vibe(vibe, door, work=work, home=home, prompt="Say who you are.", options=("--max-turns", "4"))

    records = door.records()[before:]
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert SENTENCE in done.stdout
    assert (work / "poem.txt").read_text() == "The wind is calm.\n"
    assert records
    assert {record.state for record in records} == {UsageState.SETTLED}
    assert {record.endpoint for record in records} == {"/v1/chat/completions"}
    assert any(record.stream for record in records)
    assert all(record.usage.prompt_tokens and record.usage.completion_tokens for record in records)


def run_vibe(
    vibe: Path, door: Door, *, work: Path, home: Path, prompt: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run Vibe once, with the printed configuration and nothing of this machine's own."""
    (home / "config.toml").write_text(printed("vibe", door.url, door.authority))
    return subprocess.run(
        [str(vibe), "--trust", "--auto-approve", "--output", "text", *options, "-p", prompt],
        cwd=work, check=False, capture_output=True, text=True, timeout=180,
        env={
            "PATH": "/usr/bin:/bin", "HOME": str(home), "VIBE_HOME": str(home),
            "LEEWARD_API_KEY": door.secret, "SSL_CERT_FILE": str(door.authority),
        },
    )  # fmt: skip


def printed(client: str, url: str, authority: Path) -> str:
    command = [str(Path(sys.executable).with_name("leeward")), "client-config", client]
    options = ["--url", url, "--ca", str(authority), "--model", MODEL]
    return subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
