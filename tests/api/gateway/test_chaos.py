"""A short campaign; the long one is `python -m tests.campaign.gateway`."""

from __future__ import annotations

from tests.campaign.gateway import Plan, campaign


def test_the_ledger_agrees_with_the_engine_after_kills_departures_and_a_full_disk() -> None:
    said = campaign(Plan(requests=250, kills=1, engine_kills=1, fills=1, seed=7))

    assert "1 kills of the gateway, 1 of the engine" in said
