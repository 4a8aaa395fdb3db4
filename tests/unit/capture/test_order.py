"""Switching capture on and off, its notice, and the file between daemon and gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.capture import CaptureOrderFile
from appliance.domain.capture import order_from_text, order_to_text
from appliance.domain.errors import LeewardError, RequestInvalid, StateUnusable
from appliance.domain.operation import Actor
from appliance.services.capture import ContentCapture
from bundles import private_keys

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ADMIN = Actor(name="root", uid=0)
DAY = timedelta(days=1)


@dataclass
class Records:
    entries: list[tuple[str, str]] = field(default_factory=list)
    at: datetime = NOW

    def append(self, *, action: str, outcome: str, **_: object) -> None:
        self.entries.append((action, outcome))

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture.json"


@pytest.fixture
def capture(path: Path, records: Records) -> ContentCapture:
    return ContentCapture(orders=CaptureOrderFile(path), audit=records, clock=records)  # type: ignore[arg-type]  # a twin


@pytest.fixture(scope="module")
def pem() -> str:
    return private_keys.public_pem(private_keys.generate(private_keys.ECDSA).public_key).decode()


def test_capture_is_off_until_it_is_switched_on_and_ends_by_itself(
    capture: ContentCapture, records: Records, pem: str, path: Path
) -> None:
    assert (capture.order(), capture.alerts()) == (None, ())

    order = capture.switch_on(auditor_pem=pem, reason="Audit 7", lasts=DAY, actor=ADMIN)

    (notice,) = capture.alerts()
    assert (notice.code, notice.since) == ("capture-on", NOW)
    assert "Audit 7" in notice.advice
    assert order_from_text(path.read_text()) == order == capture.order()
    assert order_from_text(order_to_text(order)) == order
    assert records.entries == [("capture.on", "begun"), ("capture.on", "succeeded")]
    records.at = NOW + DAY
    assert (capture.order(), capture.alerts()) == (None, ())


def test_switching_off_leaves_nothing_and_is_on_record(
    capture: ContentCapture, records: Records, pem: str, path: Path
) -> None:
    capture.switch_on(auditor_pem=pem, reason="Audit 7", lasts=DAY, actor=ADMIN)
    capture.switch_off(ADMIN)
    capture.switch_off(ADMIN)

    assert capture.order() is None
    assert list(path.parent.iterdir()) == []
    assert records.entries[2:] == [("capture.off", "begun"), ("capture.off", "succeeded")] * 2


@pytest.mark.parametrize(
    "changes",
    [{"reason": " "}, {"reason": "a\nb"}, {"reason": "x" * 501}, {"lasts": timedelta(0)}, {"lasts": 91 * DAY},
     {"auditor_pem": "x"}],
)  # fmt: skip
def test_an_order_without_reason_end_or_key_is_refused_and_nothing_is_captured(
    capture: ContentCapture, records: Records, pem: str, path: Path, changes: dict[str, Any]
) -> None:
    wanted: dict[str, Any] = {"auditor_pem": pem, "reason": "Audit 7", "lasts": DAY, "actor": ADMIN}

    with pytest.raises((RequestInvalid, LeewardError)):
        capture.switch_on(**(wanted | changes))
    assert records.entries == []
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"auditor": 1}', "\0"])
def test_a_file_that_is_no_order_is_told_and_captures_nothing(
    capture: ContentCapture, path: Path, content: str
) -> None:
    path.write_text(content)

    with pytest.raises(StateUnusable):
        capture.order()
    assert [alert.code for alert in capture.alerts()] == ["capture-unknown"]


def test_an_order_that_cannot_be_written_failed_on_record(records: Records, pem: str, tmp_path: Path) -> None:
    capture = ContentCapture(
        orders=CaptureOrderFile(tmp_path / "file" / "capture.json"),
        audit=records,
        clock=records,  # type: ignore[arg-type]  # a twin
    )

    (tmp_path / "file").touch()
    with pytest.raises(StateUnusable):
        capture.switch_on(auditor_pem=pem, reason="Audit 7", lasts=DAY, actor=ADMIN)
    assert records.entries == [("capture.on", "begun"), ("capture.on", "failed")]
