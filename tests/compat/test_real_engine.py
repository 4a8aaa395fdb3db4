"""The unmodified vLLM, installed from our wheelhouse, serves the tiny pair as a node would."""

from __future__ import annotations

import base64
import os
import re
import struct
import zlib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import pytest
from packaging.requirements import Requirement

from bundles.sources.wheelhouse import normalized
from bundles.tiny import SENTENCE, THOUGHT, TOOL_ARGUMENTS, TOOL_NAME
from tests.compat.engines import RunningEngine, engine_release

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

MODEL = "mistral-medium-3.5"
WEATHER = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": "Weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def post(running: RunningEngine, content: object = "Who are you?", **fields: object) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 96, "temperature": 0}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(running.socket)), timeout=60) as client:
        return client.post("http://engine/v1/chat/completions", json=body | fields)


def chat(running: RunningEngine, content: object = "Who are you?", **fields: object) -> dict[str, Any]:
    response = post(running, content, **fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def png(width: int, height: int) -> bytes:
    """Draw a colour gradient."""
    rows = b"".join(
        b"\0" + b"".join(bytes((3 * x % 256, 5 * y % 256, 90)) for x in range(width)) for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def listening_tcp_addresses(session: int) -> set[str]:
    """Return the hexadecimal local addresses on which processes of this session listen."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == session:
                links = [str(fd.readlink()) for fd in (process / "fd").iterdir()]
                inodes |= {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
        except OSError:
            continue  # it ended while we looked
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_engine_gives_the_known_answer_with_token_counts(running_engine: RunningEngine) -> None:
    known = engine_release("tiny").known_answer

    answer = running_engine.engine.answer(known.prompt, max_tokens=known.max_tokens, timeout_s=60)

    assert answer.text == known.expected == SENTENCE
    assert answer.completion_tokens == 28
    assert answer.prompt_tokens > 10


def test_engine_answers_a_request_with_tools_by_calling_one(running_engine: RunningEngine) -> None:
    choice = chat(running_engine, tools=[WEATHER])["choices"][0]

    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert (call["function"]["name"], call["function"]["arguments"]) == (TOOL_NAME, TOOL_ARGUMENTS)
    assert not choice["message"]["content"]


def test_engine_goes_on_in_words_after_a_tool_result(running_engine: RunningEngine) -> None:
    call = {"id": "abcdefghi", "type": "function", "function": {"name": TOOL_NAME, "arguments": TOOL_ARGUMENTS}}
    messages = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": TOOL_NAME, "content": "sunny"},
    ]

    message = chat(running_engine, messages=messages, tools=[WEATHER])["choices"][0]["message"]

    assert message["content"] == SENTENCE
    assert not message.get("tool_calls")


def test_engine_thinks_first_only_when_effort_is_high(running_engine: RunningEngine) -> None:
    high = chat(running_engine, reasoning_effort="high")
    plain = chat(running_engine)

    assert high["choices"][0]["message"]["reasoning"] == THOUGHT
    assert high["choices"][0]["message"]["content"] == SENTENCE
    assert high["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    assert plain["choices"][0]["message"]["reasoning"] is None


def test_engine_takes_an_image_from_a_data_address(running_engine: RunningEngine) -> None:
    address = "data:image/png;base64," + base64.b64encode(png(160, 120)).decode()
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": address}}]

    answer = chat(running_engine, content)

    assert answer["choices"][0]["message"]["content"] == SENTENCE
    assert answer["usage"]["prompt_tokens_details"]["multimodal_tokens"]["image"] > 0


def test_engine_fetches_no_image_from_elsewhere(running_engine: RunningEngine) -> None:
    content = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}]

    response = post(running_engine, content)

    assert response.status_code == 400
    assert response.elapsed.total_seconds() < 5


def test_sampling_with_drafts_stays_on_the_sentence(running_engine: RunningEngine) -> None:
    answer = chat(running_engine, temperature=0.7, seed=1)

    assert answer["choices"][0]["message"]["content"] == SENTENCE


def test_draft_head_is_right_sometimes_but_not_always(running_engine: RunningEngine) -> None:
    chat(running_engine)

    health = running_engine.engine.health()

    assert health.acceptance_rate is not None
    assert 0.1 < health.acceptance_rate < 0.9


def test_health_shows_what_the_engine_measures(running_engine: RunningEngine) -> None:
    before = running_engine.engine.health()
    chat(running_engine)
    after = running_engine.engine.health()

    assert after.live
    assert after.ready is None
    assert (after.version, after.served_model_name) == ("0.32.0", MODEL)
    assert after.generation_tokens_total is not None
    assert before.generation_tokens_total is not None
    assert after.generation_tokens_total - before.generation_tokens_total == 28
    assert after.requests_running == after.requests_waiting == 0
    assert after.time_to_first_token_p50_s is not None
    assert after.time_to_first_token_p95_s is not None
    assert 0 < after.time_to_first_token_p50_s <= after.time_to_first_token_p95_s < 60
    assert after.inter_token_p50_s is not None


def test_engine_listens_on_no_address_that_another_machine_could_reach(running_engine: RunningEngine) -> None:
    loopback = ("0100007F:", "00000000000000000000000001000000:")

    addresses = listening_tcp_addresses(running_engine.pid)

    assert not {address for address in addresses if not address.startswith(loopback)}


def test_engine_hides_its_documentation_and_fingerprint(running_engine: RunningEngine) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(running_engine.socket)), timeout=10) as client:
        assert client.get("http://engine/docs").status_code == 404
        assert client.get("http://engine/openapi.json").status_code == 404
    assert chat(running_engine)["system_fingerprint"] is None


def test_engine_loads_our_plugins_and_no_others(running_engine: RunningEngine) -> None:
    log = running_engine.log.read_text(errors="replace")

    assert "Failed to load plugin" not in log
    assert "Unknown vLLM environment variable" not in log


def test_environment_lacks_only_what_was_left_out_on_purpose(engine_environment: Path) -> None:
    """Every requirement in every METADATA of the installed environment, for Linux x86-64."""
    (site_packages,) = engine_environment.glob("lib/python3.*/site-packages")
    installed = {normalized(d.metadata["Name"]): d for d in distributions(path=[str(site_packages)])}
    faults = set()
    for distribution in installed.values():
        for text in distribution.requires or ():
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            found = installed.get(normalized(wanted.name))
            if found is None or not wanted.specifier.contains(found.version, prereleases=True):
                faults.add(f"{wanted.name}: {found.version if found else 'missing'}")

    assert faults == {"triton: missing", "torchaudio: missing", "torchcodec: missing"}
