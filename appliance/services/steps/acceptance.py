"""Steps `burn-in` and `measure` of an acceptance.

    burn-in   the engine stops, because it holds the GPUs' memory; diagnostics; the processors work
    start     (services.steps.start) the engine runs again and gives the known answer
    measure   a fixed load on the engine; the passport is written

While the burn-in runs the node does not serve. That it stops a running engine is journaled first. An
operation that then fails, is canceled or is put off by the daemon's stop starts it again (`undo`),
after a kill too; else the step `start` does. Run again, a step measures anew and replaces what its
last run kept.

As part of an install or a provision, `burn-in` stands between `reboot` and `start`, so that the
weights are loaded once, and `measure` at the end; `start` then starts the new release.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from appliance.domain.acceptance import (
    AcceptancePlan,
    Band,
    BurnInResult,
    GpuStress,
    Passport,
    below_band,
    notice,
    predicted,
)
from appliance.domain.errors import BurnInFailed, EngineNotReady
from appliance.domain.events import LogLine, StepStarted, UnitStopped
from appliance.domain.node import Gpu
from appliance.domain.operation import StepName
from appliance.domain.passport_page import page
from appliance.ports import AuditLog, BurnIn, Emit, Journal, LoadMeter, NodeProbe, PassportStore, ServiceManager, Slots
from appliance.services.acceptance import Passports
from appliance.services.readiness import ENGINE_UNIT
from appliance.services.steps import StepContext
from appliance.services.steps.start import DEAD_STATES
from bundles.release import Device, EngineRelease, Release

LOOK_INTERVAL_S: Final = 5.0
STOPPED_STATES: Final = frozenset({"inactive", "deactivating"})
"""Of a unit that somebody stopped; one that ended by itself has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnInStep:
    """Measures the processors. Raises EngineNotReady, RequestInvalid, BurnInFailed, CommandFailed, Canceled."""

    slots: Slots
    services: ServiceManager
    probe: NodeProbe
    burn_in: BurnIn
    store: PassportStore
    journal: Journal
    monotonic_s: Callable[[], float] = time.monotonic

    def run(self, context: StepContext) -> str:
        """Stop the engine, measure, keep."""
        plan = AcceptancePlan.of(context.parameters)
        _, _, engine = serving(self.slots)
        context.stop_if_canceled()
        if self.services.active_state(ENGINE_UNIT) not in DEAD_STATES:
            context.emit(LogLine(text=f"stopping {ENGINE_UNIT}: nobody is served until the burn-in has ended"))
            context.emit(UnitStopped(unit=ENGINE_UNIT))
            self.services.stop(ENGINE_UNIT)
        result = self._measure(plan, engine, context)
        self.store.keep_burn_in(context.operation_id, result)
        return f"{', '.join(sorted(set(result.devices)))}: {len(result.figures)} figures in {plan.duration_s} s"

    def undo(self, context: StepContext) -> None:
        """Start the engine again where this operation has stopped it and nothing has started it since."""
        is_stopped, is_start_begun = self._journaled(context)
        stopped_states = STOPPED_STATES if is_start_begun else STOPPED_STATES | DEAD_STATES
        if is_stopped and self.services.active_state(ENGINE_UNIT) in stopped_states:
            context.emit(LogLine(text=f"starting {ENGINE_UNIT} again"))
            self.services.restart(ENGINE_UNIT)

    def _journaled(self, context: StepContext) -> tuple[bool, bool]:
        """Return whether this operation has stopped the engine, and whether it has come to starting it."""
        is_stopped, is_start_begun, after = False, False, 0
        while records := self.journal.records(context.operation_id, after):
            events = [record.event for record in records]
            is_stopped |= UnitStopped(unit=ENGINE_UNIT) in events
            is_start_begun |= StepStarted(step=StepName.START) in events
            after = records[-1].seq
        return is_stopped, is_start_begun

    def _measure(self, plan: AcceptancePlan, engine: EngineRelease, context: StepContext) -> BurnInResult:
        on_gpus = engine.device is Device.CUDA
        diagnosis = None
        if on_gpus and plan.diagnostics_level:
            diagnosis = self.burn_in.diagnose(level=plan.diagnostics_level, is_canceled=context.is_canceled)
        watch = _Watch(self.probe, context.emit, self.monotonic_s, on_gpus=on_gpus)
        result = self.burn_in.run(
            engine.device,
            duration_s=plan.duration_s,
            ranks=engine.tensor_parallel_size,
            watch=watch.look,
            is_canceled=context.is_canceled,
        )
        if result.wrong:
            raise BurnInFailed(
                detail=f"Two runs of the same product differ: {', '.join(result.wrong)}.",
                remedy="Answers may be wrong: `systemctl stop leeward-engine`, and have the device replaced.",
            )
        return replace(result, diagnosis=diagnosis, stress=watch.stress())


class _Watch:
    """Looks at the GPUs now and then while they work, and keeps the worst."""

    def __init__(self, probe: NodeProbe, emit: Emit, monotonic_s: Callable[[], float], *, on_gpus: bool) -> None:
        self._probe = probe
        self._emit = emit
        self._monotonic_s = monotonic_s
        self._on_gpus = on_gpus
        self._began_s = self._looked_s = monotonic_s()
        self._worst: dict[int, GpuStress] = {}

    def look(self) -> None:
        now_s = self._monotonic_s()
        if now_s - self._looked_s < LOOK_INTERVAL_S:
            return
        self._looked_s = now_s
        gpus = self._probe.facts().gpus if self._on_gpus else ()
        for gpu in gpus:
            self._worst[gpu.index] = _worse(self._worst.get(gpu.index), gpu)
        hottest = max((gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None), default=None)
        heat = "" if hottest is None else f", the hottest GPU at {hottest} °C"
        self._emit(LogLine(text=f"burn-in for {now_s - self._began_s:.0f} s{heat}"))

    def stress(self) -> tuple[GpuStress, ...]:
        return tuple(self._worst[index] for index in sorted(self._worst))


def _worse(known: GpuStress | None, gpu: Gpu) -> GpuStress:
    reasons = {reason for reason in gpu.clocks_event_reasons or () if reason != "idle"}
    if known is None:
        return GpuStress(
            index=gpu.index,
            temperature_c=gpu.temperature_c,
            power_w=gpu.power_w,
            clocks_event_reasons=tuple(sorted(reasons)),
        )
    return GpuStress(
        index=gpu.index,
        temperature_c=max((t for t in (known.temperature_c, gpu.temperature_c) if t is not None), default=None),
        power_w=max((p for p in (known.power_w, gpu.power_w) if p is not None), default=None),
        clocks_event_reasons=tuple(sorted(reasons | set(known.clocks_event_reasons))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureStep:
    """Measures the engine and writes the passport. Raises NotFound, EngineNotReady, StoreUnusable, Canceled."""

    slots: Slots
    probe: NodeProbe
    meter: LoadMeter
    store: PassportStore
    audit: AuditLog
    bands: tuple[Band, ...]
    node: str
    simulated: tuple[str, ...]

    def run(self, context: StepContext) -> str:
        """Put the load on, then write."""
        plan = AcceptancePlan.of(context.parameters)
        slot, release, engine = serving(self.slots)
        burn_in = self.store.burn_in(context.operation_id)
        figures = self.meter.measure(
            engine.served_model_name, concurrency=plan.concurrency, is_canceled=context.is_canceled
        )
        facts = self.probe.facts()
        passport = Passport(
            id=context.operation_id,
            node=self.node,
            slot=slot,
            engine_version=engine.version,
            measured_at=context.started_at,
            notice=notice(burn_in.device, self.simulated),
            driver=None if facts.driver is None else facts.driver.version,
            burn_in=burn_in,
            predicted=predicted(release, engine, facts.gpus, burn_in),
            engine=figures,
            below_band=below_band(burn_in, self.bands),
        )
        details = {"slot": slot, "device": burn_in.device.value, "figures": str(len(passport.figures))}
        self.audit.append(
            actor=context.actor.name, action="passport.write", object_=passport.id, outcome="succeeded", details=details
        )
        self.store.keep(passport)
        view = next(v for v in Passports(self.store, slot=self.slots.current).views() if v.passport.id == passport.id)
        for line in page(view).splitlines():
            context.emit(LogLine(text=line))
        worse = f", {len(view.drops)} worse than {view.baseline.slot}" if view.baseline and view.drops else ""
        return f"{passport.notice or 'GPUs measured.'} {len(passport.figures)} figures{worse}"


def serving(slots: Slots) -> tuple[str, Release, EngineRelease]:
    """Return the current slot, its release and its engine.

    Raises EngineNotReady where nothing is served, or where another release waits to be.
    """
    slot, waiting = slots.current(), slots.pending()
    if waiting not in {None, slot}:
        raise EngineNotReady(
            detail=f"{waiting} was imported and waits to be served.",
            remedy="Run `leeward provision` first; an acceptance is of the release that serves.",
        )
    release = None if slot is None else slots.release(slot)
    if slot is None or release is None or release.engine is None:
        raise EngineNotReady(
            detail="No release with an engine is current on this node.", remedy="Run `leeward install` first."
        )
    return slot, release, release.engine
