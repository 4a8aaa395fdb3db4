"""Passports and burn-ins as a test wants them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from appliance.domain.acceptance import BurnInResult, Figure, Passport
from bundles.release import Device

AT = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


def figure(
    name: str, value: float, *, subject: str = "CPU", spread: float = 0.0, samples: int = 5, better: str = "higher"
) -> Figure:
    return Figure(name=name, subject=subject, unit="GB/s", value=value, spread=spread, samples=samples, better=better)


def burn_in(*figures: Figure, device: Device = Device.CPU, devices: tuple[str, ...] = ("AMD EPYC",)) -> BurnInResult:
    return BurnInResult(device=device, torch="2.13.0", devices=devices, figures=figures, wrong=(), duration_s=60)


def passport(
    number: int,
    *figures: Figure,
    slot: str = "26.11.0-e1",
    device: Device = Device.CPU,
    engine: tuple[Figure, ...] = (),
) -> Passport:
    return Passport(
        id=f"op-{number}", node="llm01", slot=slot, engine_version="0.32.0", measured_at=AT + timedelta(days=number),
        notice="", driver=None, burn_in=burn_in(*figures, device=device), predicted=(), engine=engine, below_band=(),
    )  # fmt: skip
