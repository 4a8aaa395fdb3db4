"""`leeward client-config`: what a person pastes where a program shall ask this node.

The key is never printed: each configuration reads it from the variable `LEEWARD_API_KEY`. The verb
asks nobody, so it works on any machine when it is told the node's address and the model.
"""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from appliance.config import Settings
from appliance.domain.errors import ConfigInvalid
from bundles.release import release_from_bytes

KEY = "LEEWARD_API_KEY"
CONTEXT_TOKENS = 262_144
COMPACT_AT_TOKENS = 168_000  # as the model's card configures Vibe


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the gateway is, what vouches for it, and what it serves."""

    url: str
    authority: str
    model: str


def _openai(access: Access) -> str:
    return f"""\
# The openai SDK and most programs built on it. Then: export {KEY}=lwd_...
export OPENAI_BASE_URL={shlex.quote(access.url + "/v1")}
export OPENAI_API_KEY="${KEY}"
export OPENAI_MODEL={shlex.quote(access.model)}
export SSL_CERT_FILE={shlex.quote(access.authority)}
"""


def _mistral(access: Access) -> str:
    return f"""\
# The mistralai SDK.
import os
import ssl

import httpx
from mistralai.client import Mistral

context = ssl.create_default_context(cafile={_text(access.authority)})
client = Mistral(
    server_url={_text(access.url)},
    api_key=os.environ["{KEY}"],
    client=httpx.Client(verify=context, timeout=720),
)
model = {_text(access.model)}
"""


def _anthropic(access: Access) -> str:
    names = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{each}_MODEL" for each in ("OPUS", "SONNET", "HAIKU")))
    models = "\n".join(f"export {name}={shlex.quote(access.model)}" for name in names)
    return f"""\
# The anthropic SDK and programs built on it, Claude Code among them. Then: export {KEY}=lwd_...
export ANTHROPIC_BASE_URL={shlex.quote(access.url)}
export ANTHROPIC_AUTH_TOKEN="${KEY}"
{models}
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
export SSL_CERT_FILE={shlex.quote(access.authority)}
export NODE_EXTRA_CA_CERTS={shlex.quote(access.authority)}
"""


def _vibe(access: Access) -> str:
    return f"""\
# Mistral Vibe: ~/.vibe/config.toml. Start it with {KEY}=lwd_... and
# SSL_CERT_FILE={access.authority} in the environment.
active_model = "leeward"
enable_telemetry = false
enable_update_checks = false
enable_auto_update = false
enable_connectors = false
voice_mode_enabled = false
narrator_enabled = false
experimental_enable_model_catalog = false
enable_system_trust_store = true

[experiments]
enable = false

[[providers]]
name = "leeward"
api_base = {_text(access.url + "/v1")}
api_key_env_var = "{KEY}"
backend = "generic"
api_style = "openai"
reasoning_field_name = "reasoning"

[[models]]
name = {_text(access.model)}
provider = "leeward"
alias = "leeward"
temperature = 0.7
thinking = "high"
thinking_levels = ["off", "high"]
supports_images = true
max_context_length = {CONTEXT_TOKENS}
auto_compact_threshold = {COMPACT_AT_TOKENS}
"""


def _langchain(access: Access) -> str:
    return f"""\
# LangChain, through langchain-openai.
import os
import ssl

import httpx
from langchain_openai import ChatOpenAI

context = ssl.create_default_context(cafile={_text(access.authority)})
model = ChatOpenAI(
    model={_text(access.model)},
    base_url={_text(access.url + "/v1")},
    api_key=os.environ["{KEY}"],
    http_client=httpx.Client(verify=context, timeout=720),
    http_async_client=httpx.AsyncClient(verify=context, timeout=720),
    use_responses_api=False,
    stream_usage=True,
)
"""


def _llamaindex(access: Access) -> str:
    return f"""\
# LlamaIndex, through llama-index-llms-openai-like.
import os
import ssl

import httpx
from llama_index.llms.openai_like import OpenAILike

context = ssl.create_default_context(cafile={_text(access.authority)})
model = OpenAILike(
    model={_text(access.model)},
    api_base={_text(access.url + "/v1")},
    api_key=os.environ["{KEY}"],
    context_window={CONTEXT_TOKENS},
    is_chat_model=True,
    is_function_calling_model=True,
    timeout=720,
    http_client=httpx.Client(verify=context, timeout=720),
)
"""


def _curl(access: Access) -> str:
    body = json.dumps({"model": access.model, "messages": [{"role": "user", "content": "Who are you?"}]})
    return f"""\
# Then: export {KEY}=lwd_...
curl --fail-with-body --cacert {shlex.quote(access.authority)} \\
  -H "Authorization: Bearer ${KEY}" -H "Content-Type: application/json" \\
  -d {shlex.quote(body)} \\
  {shlex.quote(access.url + "/v1/chat/completions")}
"""


CLIENTS: dict[str, Callable[[Access], str]] = {
    "anthropic": _anthropic,
    "curl": _curl,
    "langchain": _langchain,
    "llamaindex": _llamaindex,
    "mistral": _mistral,
    "openai": _openai,
    "vibe": _vibe,
}


@click.command("client-config")
@click.argument("client", type=click.Choice(sorted(CLIENTS)))
@click.option("--url", help="The gateway's address, such as https://node1.site:8443; default: this machine's.")
@click.option(
    "--ca",
    "authority",
    default="/etc/leeward/tls/server.crt",
    show_default=True,
    help="Where the client's machine keeps the certificate that vouches for the gateway.",
)
@click.option("--model", help="The served model's name; default: the active release's.")
def client_config(*, client: str, url: str | None, authority: str, model: str | None) -> None:
    """Print a client's configuration for this node. It reads the key from LEEWARD_API_KEY."""
    if url is None or model is None:
        settings = Settings.load()
        url = url or f"https://{socket.getfqdn()}:{settings.gateway.port}"
        model = model or _served_model(settings.paths.current_slot)
    access = Access(url=url.rstrip("/").removesuffix("/v1"), authority=authority, model=model)
    click.echo(CLIENTS[client](access), nl=False)


def _served_model(slot: Path) -> str:
    """Read the served model's name; raises ConfigInvalid, or ReleaseInvalid for a broken manifest."""
    try:
        release = release_from_bytes((slot / "release.json").read_bytes())
    except OSError as problem:
        raise ConfigInvalid(
            detail=f"No active release: {slot}/release.json cannot be read ({problem.strerror}).",
            remedy="Name the model with --model; on the node, `leeward status` shows what is active.",
        ) from problem
    if release.engine is None:
        raise ConfigInvalid(detail=f"{slot} holds no engine.", remedy="Name the model with --model.")
    return release.engine.served_model_name


def _text(value: str) -> str:
    """Write a text as TOML and Python both read it."""
    return json.dumps(value, ensure_ascii=False)
