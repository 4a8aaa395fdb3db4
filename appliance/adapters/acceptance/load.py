"""A fixed load on the running engine, over its own socket: what it gives at one client and at many.

Chat as tenants use it, greedy, each question different so that no cached prefix helps. Answers are
counted and forgotten. The figures leave out the gateway, whose own cost docs/performance.md tells.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from appliance.adapters.vllm import VllmEngine
from appliance.domain.acceptance import LOWER, Figure
from appliance.domain.errors import Canceled, EngineNotReady
from appliance.ports import IsCanceled

MAX_TOKENS: Final = 128
ROUNDS: Final = 3
ANSWER_TIMEOUT_S: Final = 600.0
QUESTION: Final = "Question {}. Tell the story of a lighthouse keeper and a ship in the fog, in many sentences."
_BLOCKS: Final = re.compile(r'^vllm:cache_config_info\{.*?block_size="(\d+)".*?num_gpu_blocks="(\d+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One streamed answer: seconds to its first token and to its end, and its tokens."""

    first_s: float
    all_s: float
    tokens: int


class EngineLoadMeter:
    """Implements `appliance.ports.LoadMeter`."""

    def __init__(self, socket_path: Path, *, rounds: int = ROUNDS, max_tokens: int = MAX_TOKENS) -> None:
        self._socket_path = socket_path
        self._rounds = rounds
        self._max_tokens = max_tokens

    def measure(self, model: str, *, concurrency: int, is_canceled: IsCanceled) -> tuple[Figure, ...]:
        engine = VllmEngine(self._socket_path)
        before = engine.health()
        with self._client() as client:
            self._round(client, model, 1, 0, is_canceled)  # warms up, not counted
            figures = [f for n in sorted({1, concurrency}) for f in self._at(client, model, n, is_canceled)]
            figures += _cache(client)
        after = engine.health()
        drafted = _rise(before.draft_tokens_total, after.draft_tokens_total)
        accepted = _rise(before.accepted_tokens_total, after.accepted_tokens_total)
        if drafted and accepted is not None:
            figures.append(Figure.of("draft-acceptance", "engine", "share", [accepted / drafted]))
        return tuple(figures)

    def _at(self, client: httpx.Client, model: str, concurrency: int, is_canceled: IsCanceled) -> list[Figure]:
        rates, firsts = [], []
        for number in range(self._rounds):
            began_s = time.monotonic()
            answers = self._round(client, model, concurrency, 1 + number, is_canceled)
            rates.append(sum(answer.tokens for answer in answers) / (time.monotonic() - began_s))
            firsts += [answer.first_s for answer in answers]
        clients = "1 client" if concurrency == 1 else f"{concurrency} clients"
        return [
            Figure.of("throughput", clients, "tokens/s", rates),
            Figure.of("time-to-first-token", clients, "s", firsts, better=LOWER),
        ]

    def _round(
        self, client: httpx.Client, model: str, concurrency: int, number: int, is_canceled: IsCanceled
    ) -> list[Answered]:
        if is_canceled():
            raise Canceled(detail="The measurement was asked to stop.", remedy="Start it again when it suits.")
        questions = [QUESTION.format(f"{concurrency}-{number}-{index}") for index in range(concurrency)]
        with ThreadPoolExecutor(concurrency) as threads:
            return list(threads.map(lambda question: self._ask(client, model, question), questions))

    def _ask(self, client: httpx.Client, model: str, question: str) -> Answered:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self._max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began_s, first_s, tokens = time.monotonic(), None, 0
        try:
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                for line in response.iter_lines():
                    if not line.startswith("data: {"):
                        continue
                    chunk = json.loads(line.removeprefix("data: "))
                    if first_s is None and _has_text(chunk):
                        first_s = time.monotonic() - began_s
                    tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        except (httpx.HTTPError, ValueError) as error:
            raise _not_ready(f"a question of the load was not answered: {type(error).__name__}: {error}") from error
        if first_s is None or not tokens:
            raise _not_ready("a question of the load was answered without text or without a count of tokens")
        return Answered(first_s=first_s, all_s=time.monotonic() - began_s, tokens=tokens)

    def _client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self._socket_path), limits=httpx.Limits(max_connections=None))
        return httpx.Client(transport=transport, base_url="http://engine", timeout=ANSWER_TIMEOUT_S)


def _has_text(chunk: dict[str, object]) -> bool:
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices:
        return False
    delta = choices[0].get("delta", {})
    return any(delta.get(name) for name in ("content", "reasoning", "tool_calls"))


def _cache(client: httpx.Client) -> list[Figure]:
    """Return how many tokens the engine says that its KV cache holds; nothing where it does not say."""
    found = _BLOCKS.search(client.get("/metrics").text)
    return [] if found is None else [Figure.of("kv-cache", "engine", "tokens", [int(found[1]) * int(found[2])])]


def _rise(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _not_ready(detail: str) -> EngineNotReady:
    return EngineNotReady(
        detail=detail, remedy="Read `journalctl -u leeward-engine` and `leeward health`, then measure again."
    )
