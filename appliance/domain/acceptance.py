"""Acceptance: what a node was measured to do with a release, and how that compares.

A *capacity passport* is one node's measured figures with one release, beside what was predicted. Pure:
samples in, figures, pages and drops out.

    prediction   arithmetic from the release and the node; says on what it rests
    figure       median of samples, and how far they spread
    band         what the maker's data sheet lets one expect, for known GPUs only
    drop         a figure that is worse than in the passport it is compared with, by more than noise

Figures of different devices are never compared, and a passport without a GPU says so first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Final

from appliance.domain.engine import CPU_KV_CACHE_GIB
from appliance.domain.errors import RequestInvalid
from appliance.domain.fit import kv_budget
from appliance.domain.health import Alert, Severity
from appliance.domain.node import Gpu
from bundles.release import TARGET_FOLDER, Device, EngineRelease, Release

SCHEMA: Final = "leeward-passport/1"
CPU_NOTICE: Final = "CPU, NO GPU MEASURED. These figures say nothing about a GPU."
SIMULATED_NOTICE: Final = "HARDWARE IS SIMULATED on this node: {}. What was measured is not what facts show."
NOISE_FLOOR: Final = 0.05
"""The least difference that counts, as a share: clocks and other guests of the machine move that much (assumed)."""
DEFAULT_DURATION_S: Final = 60
LONGEST_DURATION_S: Final = 86_400
DEFAULT_CONCURRENCY: Final = 8
DEFAULT_DIAGNOSTICS_LEVEL: Final = 1
"""DCGM's quickest, some seconds; 0 leaves the diagnostics out."""
HIGHER: Final = "higher"
LOWER: Final = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured value: the median of `samples` runs; `spread` is half their middle range as a share of it."""

    name: str
    subject: str
    unit: str
    value: float
    spread: float
    samples: int
    better: str = HIGHER

    def __post_init__(self) -> None:
        if self.samples < 1 or self.value < 0 or self.better not in {HIGHER, LOWER}:
            raise ValueError(f"not a figure: {self.name} of {self.subject}")

    @classmethod
    def of(cls, name: str, subject: str, unit: str, samples: Sequence[float], *, better: str = HIGHER) -> Figure:
        """Sum samples up; the outer tenths do not count for the spread. Raises ValueError for none."""
        ordered = sorted(samples)
        if not ordered:
            raise ValueError(f"{name} of {subject} has no samples")
        cut = len(ordered) // 10
        middle = median(ordered)
        spread = (ordered[-1 - cut] - ordered[cut]) / 2 / middle if middle else 0.0
        return cls(
            name=name, subject=subject, unit=unit, value=middle, spread=spread, samples=len(ordered), better=better
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A value that arithmetic gives; `basis` says from what."""

    name: str
    unit: str
    value: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuStress:
    """The worst that was seen of one GPU while it worked; `None` and empty where nothing could be read."""

    index: int
    temperature_c: int | None
    power_w: float | None
    clocks_event_reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The verdict of the maker's own diagnostics (`dcgmi diag`); `failures` names tests that did not pass."""

    program: str
    level: int
    passed: bool
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnInResult:
    """What the burn-in program said. `wrong` names devices that computed wrong."""

    device: Device
    torch: str
    devices: tuple[str, ...]
    figures: tuple[Figure, ...]
    wrong: tuple[str, ...]
    duration_s: int
    stress: tuple[GpuStress, ...] = ()
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What to expect of a figure on a known GPU: shares of the data sheet's peak, from `source`."""

    gpu: str
    figure: str
    peak: float
    low: float
    source: str

    @property
    def least(self) -> float:
        """The value below which a person should look."""
        return self.peak * self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class Passport:
    """One acceptance: who measured what, where, with which release."""

    schema: str = SCHEMA
    id: str
    node: str
    slot: str
    engine_version: str
    measured_at: datetime
    notice: str
    driver: str | None
    burn_in: BurnInResult
    predicted: tuple[Prediction, ...]
    engine: tuple[Figure, ...]
    below_band: tuple[str, ...]
    """Sentences: which figure is under its band, with both values and the band's source."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All that was measured."""
        return (*self.burn_in.figures, *self.engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A figure that is worse than before by `change` (a share), where `noise` explains less than that."""

    name: str
    subject: str
    unit: str
    before: float
    after: float
    change: float
    noise: float

    def __str__(self) -> str:
        return (
            f"{self.name} of {self.subject}: {self.after:.4g} {self.unit}, before {self.before:.4g} "
            f"({self.change:.0%} worse; noise explains {self.noise:.0%})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassportView:
    """A passport, the one that it is compared with, and what has become worse."""

    passport: Passport
    baseline: Passport | None
    drops: tuple[Drop, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptancePlan:
    """How long and how hard to measure."""

    duration_s: int
    diagnostics_level: int
    concurrency: int

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> AcceptancePlan:
        """Read an operation's parameters; raises RequestInvalid for a number that is out of its range."""
        return cls(
            duration_s=_whole(parameters, "duration_s", DEFAULT_DURATION_S, 1, LONGEST_DURATION_S),
            diagnostics_level=_whole(parameters, "diagnostics_level", DEFAULT_DIAGNOSTICS_LEVEL, 0, 4),
            concurrency=_whole(parameters, "concurrency", DEFAULT_CONCURRENCY, 1, 256),
        )


def _whole(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = parameters.get(name, str(default))
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise RequestInvalid(detail=f"{name} is {text!a}.", remedy=f"Give a whole number from {least} to {most}.")
    return int(text)


def predicted(
    release: Release, engine: EngineRelease, gpus: tuple[Gpu, ...], burn_in: BurnInResult
) -> tuple[Prediction, ...]:
    """Return what arithmetic says of this release on this node, under the names of the figures that test it."""
    found = []
    if engine.device is Device.CUDA:
        budget = kv_budget(release, engine, gpus)
        if budget is not None:
            found.append(Prediction(name="kv-cache", unit="tokens", value=budget.tokens, basis=str(budget)))
    elif engine.kv_bytes_per_token:
        tokens = CPU_KV_CACHE_GIB * 2**30 // engine.kv_bytes_per_token
        basis = f"{CPU_KV_CACHE_GIB} GiB at {engine.kv_bytes_per_token:,} bytes a token"
        found.append(Prediction(name="kv-cache", unit="tokens", value=tokens, basis=basis))
    weights = sum(
        f.size_bytes for f in release.files if f.path.startswith(TARGET_FOLDER) and f.path.endswith(".safetensors")
    )
    memory = [figure.value for figure in burn_in.figures if figure.name == "memory"][: engine.tensor_parallel_size]
    if weights and memory:
        rate = min(memory) * len(memory) * 1e9 / weights
        basis = "ceiling of 1 client without draft head: measured memory bandwidth ÷ the target's weights"
        found.append(Prediction(name="throughput", unit="tokens/s", value=rate, basis=basis))
    return tuple(found)


def notice(device: Device, simulated: Iterable[str]) -> str:
    """Return what must be read before any figure; empty where GPUs were measured."""
    words = [CPU_NOTICE] if device is Device.CPU else []
    if names := ", ".join(simulated):
        words.append(SIMULATED_NOTICE.format(names))
    return " ".join(words)


def bands_from_toml(text: str) -> tuple[Band, ...]:
    """Read the table of data-sheet figures."""
    return tuple(
        Band(gpu=gpu["name"], figure=name, peak=figure["peak"], low=figure["low"], source=gpu["source"])
        for gpu in tomllib.loads(text)["gpus"]
        for name, figure in gpu["figures"].items()
    )


def below_band(burn_in: BurnInResult, bands: Iterable[Band]) -> tuple[str, ...]:
    """Name each figure of a GPU that is under its band; a GPU that the table lacks has none."""
    known = {(band.gpu, band.figure): band for band in bands}
    found = []
    for index, name in enumerate(burn_in.devices):
        for figure in burn_in.figures:
            band = known.get((name, figure.name))
            if band is not None and figure.subject == f"GPU {index}" and figure.value < band.least:
                found.append(
                    f"{figure.name} of {figure.subject} is {figure.value:.4g} {figure.unit}; expected at least "
                    f"{band.least:.4g}, {band.low:.0%} of the peak in {band.source}"
                )
    return tuple(found)


def baseline_of(passport: Passport, others: Iterable[Passport]) -> Passport | None:
    """Return what to compare with: the last passport of another release, else the first of this one.

    So an upgrade is held against what went before, and a node that ages against itself when new.
    """
    before = sorted(
        (
            p
            for p in others
            if p.measured_at < passport.measured_at
            and (p.node, p.burn_in.device) == (passport.node, passport.burn_in.device)
        ),
        key=lambda p: p.measured_at,
    )
    foreign = [p for p in before if p.slot != passport.slot]
    return foreign[-1] if foreign else next(iter(before), None)


def drops(passport: Passport, baseline: Passport) -> tuple[Drop, ...]:
    """Return what is worse by more than the floor and both spreads together; what only one has is not compared."""
    old = {(figure.name, figure.subject, figure.unit): figure for figure in baseline.figures}
    found = []
    for new in passport.figures:
        was = old.get((new.name, new.subject, new.unit))
        if was is None or not was.value:
            continue
        change = (was.value - new.value) / was.value
        change = change if new.better == HIGHER else -change
        noise = NOISE_FLOOR + was.spread + new.spread
        if change > noise:
            found.append(
                Drop(
                    name=new.name, subject=new.subject, unit=new.unit,
                    before=was.value, after=new.value, change=change, noise=noise,
                )
            )  # fmt: skip
    return tuple(found)


def views(passports: Iterable[Passport]) -> tuple[PassportView, ...]:
    """Compare each passport with what went before it; newest first."""
    known = sorted(passports, key=lambda p: p.measured_at, reverse=True)
    found = []
    for passport in known:
        baseline = baseline_of(passport, known)
        worse = () if baseline is None else drops(passport, baseline)
        found.append(PassportView(passport=passport, baseline=baseline, drops=worse))
    return tuple(found)


def capacity_alerts(newest: PassportView | None, *, slot: str | None) -> tuple[Alert, ...]:
    """Return what the newest passport gives a person to do, where it is about the release that serves."""
    if newest is None or newest.passport.slot != slot:
        return ()
    passport, found = newest.passport, []
    if newest.drops and newest.baseline is not None:
        found.append(
            _warning(
                "capacity-drop",
                "The node does less than it was measured to do",
                f"Against {newest.baseline.slot}: {'; '.join(map(str, newest.drops))}. Run `leeward acceptance` again "
                "at a quiet hour; if it stays, read `leeward passport` for heat and held clocks.",
            )
        )
    if passport.below_band:
        found.append(
            _warning(
                "capacity-below-band",
                "A GPU does less than its data sheet lets one expect",
                f"{'; '.join(passport.below_band)}. Check power limit, cooling and ECC, then run `leeward acceptance`.",
            )
        )
    return tuple(found)


def _warning(code: str, title: str, advice: str) -> Alert:
    return Alert(code=code, severity=Severity.WARN, title=title, advice=advice, since=None)
