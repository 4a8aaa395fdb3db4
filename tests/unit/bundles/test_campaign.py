"""The campaign of `make campaign-bundles`, short; and proof that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import verify
from tests.campaign.bundles import Campaign


def test_sixty_faults_give_the_signed_release_or_a_refusal_with_a_reason(tmp_path: Path) -> None:
    tally = Campaign(tmp_path, seed=7).run(60)

    assert tally.wrong == []
    assert tally.faults == 60
    assert {kind for kind, _ in tally.outcomes} >= {"flip", "truncate", "drop", "reorder", "kill", "volumes"}
    assert sum(count for (_, outcome), count in tally.outcomes.items() if outcome != "imported") > 30


def test_the_campaign_notices_an_import_that_does_not_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(tmp_path, seed=7)
    monkeypatch.setattr(verify.CheckedFile, "_is_right", lambda *_: True)

    tally = campaign.run(25, only=["flip"])

    assert any("SILENT" in line for line in tally.wrong)
