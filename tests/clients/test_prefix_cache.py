"""Each team has its own part of the real engine's prefix cache: what one asked, another asks afresh."""

from __future__ import annotations

import ssl

import httpx
import openai
import pytest

from appliance.domain.usage import UsageRecord
from tests.clients.gateways import MODEL, Door

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

LONG = "The wind is calm and the sea is flat, says the first of many pilots. " * 60
"""Some 1,000 tokens: many blocks of the engine's cache, which keeps whole blocks only."""


def asked(door: Door, secret: str, prompt: str) -> tuple[int, UsageRecord]:
    """Ask, and return what the caller was told of cached tokens, and what the ledger holds."""
    context = ssl.create_default_context(cafile=str(door.authority))
    with openai.OpenAI(
        base_url=f"{door.url}/v1", api_key=secret, max_retries=0, http_client=httpx.Client(verify=context)
    ) as sdk:
        usage = sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=4
        ).usage
    assert usage is not None
    details = usage.prompt_tokens_details
    return (details.cached_tokens or 0) if details else 0, door.newest


def test_a_second_team_finds_nothing_of_the_first_ones_prompt_in_the_cache(door: Door) -> None:
    one, other = door.secret_of("pilots"), door.secret_of("harbour")

    first, _ = asked(door, one, LONG)
    stranger, strange_record = asked(door, other, LONG)
    again, again_record = asked(door, one, LONG)
    other_again, _ = asked(door, other, LONG)

    assert (first, stranger) == (0, 0)
    assert not strange_record.usage.cached_tokens
    assert (strange_record.team, again_record.team) == ("harbour", "pilots")
    assert again == again_record.usage.cached_tokens
    assert other_again == again
    assert again > (again_record.usage.prompt_tokens or 0) // 2 > 100


def test_two_keys_of_one_team_share_its_cache(door: Door) -> None:
    prompt = "Two of one crew. " + LONG
    asked(door, door.secret_of("crew"), prompt)

    cached, _ = asked(door, door.secret_of("crew"), prompt)

    assert cached > 100
