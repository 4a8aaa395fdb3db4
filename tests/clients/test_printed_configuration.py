"""What `leeward client-config` prints is used as it is printed, by the client that it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundles.tiny import SENTENCE
from tests.clients.environments import environment
from tests.clients.gateways import Door
from tests.clients.test_vibe import printed

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

ASK_OPENAI = """
import os, openai
client = openai.OpenAI(max_retries=0)
ask = [{"role": "user", "content": "Who are you?"}]
answer = client.chat.completions.create(model=os.environ["OPENAI_MODEL"], messages=ask, temperature=0)
print(answer.choices[0].message.content)
"""
ASK_ANTHROPIC = """
import os, anthropic
client = anthropic.Anthropic(max_retries=0)
ask = [{"role": "user", "content": "Who are you?"}]
print(client.messages.create(model=os.environ["ANTHROPIC_MODEL"], max_tokens=64, messages=ask).content[0].text)
"""
ASK_MISTRAL = """
ask = [{"role": "user", "content": "Who are you?"}]
print(client.chat.complete(model=model, messages=ask, temperature=0).choices[0].message.content)
"""
ASK_LANGCHAIN = """
from langchain_core.tools import tool

@tool
def get_weather(city: str) -> str:
    "Weather for a city"
    return "sunny"

model = model.bind(temperature=0)
streamed = None
for chunk in model.stream("Who are you?"):
    streamed = chunk if streamed is None else streamed + chunk
assert streamed.usage_metadata["output_tokens"] == 28, streamed
call = model.bind_tools([get_weather]).invoke("How is the weather?").tool_calls[0]
assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"}), call
print(streamed.content)
"""
ASK_LLAMAINDEX = """
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

def get_weather(city: str) -> str:
    "Weather for a city"
    return "sunny"

answer = model.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg="How is the weather?", temperature=0)
call = model.get_tool_calls_from_response(answer)[0]
assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"}), call
print("".join(part.delta for part in model.stream_chat([ChatMessage("Who are you?")], temperature=0)))
"""


def run(command: list[str], door: Door, *, code: str | None = None) -> str:
    variables = {"LEEWARD_API_KEY": door.secret, "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180, env=variables, input=code)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("client", "code"), [("openai", ASK_OPENAI), ("anthropic", ASK_ANTHROPIC)])
def test_a_shells_variables_are_all_that_a_client_needs(door: Door, client: str, code: str) -> None:
    variables = printed(client, door.url, door.authority)

    said = run(["sh", "-c", f'{variables}\nexec "$0" -c "$1"', sys.executable, code], door)

    assert said.strip() == SENTENCE
    assert door.secret not in variables


def test_curl_asks_as_printed(door: Door) -> None:
    said = run(["sh", "-c", printed("curl", door.url, door.authority)], door)

    assert SENTENCE in said


def test_mistrals_client_asks_as_printed(door: Door) -> None:
    said = run([sys.executable, "-"], door, code=printed("mistral", door.url, door.authority) + ASK_MISTRAL)

    assert said.strip() == SENTENCE


@pytest.mark.parametrize(("client", "code"), [("langchain", ASK_LANGCHAIN), ("llamaindex", ASK_LLAMAINDEX)])
def test_a_framework_asks_streams_and_calls_a_tool_as_printed(door: Door, client: str, code: str) -> None:
    python = environment("frameworks") / "bin" / "python"
    before = len(door.records())

    said = run([str(python), "-"], door, code=printed(client, door.url, door.authority) + code)

    assert said.strip() == SENTENCE
    assert [record.outcome for record in door.records()[before:]] == ["completed", "completed"]


def test_the_default_certificate_is_the_nodes_own_and_unknown_clients_are_refused() -> None:
    leeward = str(Path(sys.executable).with_name("leeward"))
    command = [leeward, "client-config", "curl", "--url", "https://n:8443/v1/", "--model", "m"]

    known = subprocess.run(command, check=True, capture_output=True, text=True)
    unknown = subprocess.run([leeward, "client-config", "telnet"], check=False, capture_output=True, text=True)

    assert "--cacert /etc/leeward/tls/server.crt" in known.stdout
    assert "https://n:8443/v1/chat/completions" in known.stdout
    assert unknown.returncode == 2
