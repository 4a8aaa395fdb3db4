"""A capacity passport as a page of plain text, for people and for paper."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC

from appliance.domain.acceptance import Figure, GpuStress, Passport, PassportView


def page(view: PassportView) -> str:
    """Return the page; the same passport gives the same text."""
    return "\n".join(_lines(view)) + "\n"


def _lines(view: PassportView) -> Iterator[str]:
    passport = view.passport
    yield f"CAPACITY PASSPORT  {passport.node}  {passport.slot}"
    if passport.notice:
        yield f"*** {passport.notice} ***"
    yield f"measured {passport.measured_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, operation {passport.id}"
    yield f"engine {passport.engine_version}, PyTorch {passport.burn_in.torch}, driver {passport.driver or 'none'}"
    yield f"measured on {', '.join(passport.burn_in.devices)}"
    yield ""
    yield "PREDICTED"
    for prediction in passport.predicted:
        yield f"  {prediction.name:<28} {prediction.value:>12,.4g} {prediction.unit:<10} {prediction.basis}"
    if not passport.predicted:
        yield "  nothing: the release does not state what the arithmetic needs, or no GPU is used"
    yield ""
    yield "MEASURED"
    yield from (_figure(figure) for figure in passport.figures)
    yield ""
    yield from _condition(passport)
    yield from _comparison(view)


def _figure(figure: Figure) -> str:
    return (
        f"  {figure.name:<28} {figure.value:>12,.4g} {figure.unit:<10} {figure.subject}, "
        f"± {figure.spread:.0%} over {figure.samples}"
    )


def _condition(passport: Passport) -> Iterator[str]:
    burn_in = passport.burn_in
    yield f"BURN-IN of {burn_in.duration_s} s"
    yield from (f"  WRONG RESULT: {name}" for name in burn_in.wrong)
    yield from (f"  BELOW BAND: {sentence}" for sentence in passport.below_band)
    yield from (_stress(seen) for seen in burn_in.stress)
    diagnosis = burn_in.diagnosis
    if diagnosis is None:
        yield "  diagnostics of the GPUs' maker: not run"
    else:
        verdict = "passed" if diagnosis.passed else f"FAILED: {', '.join(diagnosis.failures) or 'it names no test'}"
        yield f"  {diagnosis.program} at level {diagnosis.level}: {verdict}"


def _stress(seen: GpuStress) -> str:
    temperature = "??" if seen.temperature_c is None else str(seen.temperature_c)
    power = "??" if seen.power_w is None else f"{seen.power_w:.0f}"
    reasons = ", ".join(seen.clocks_event_reasons) or "none seen"
    return f"  GPU {seen.index}: at most {temperature} °C and {power} W; clocks held back by: {reasons}"


def _comparison(view: PassportView) -> Iterator[str]:
    yield ""
    if view.baseline is None:
        yield "COMPARED with nothing: there is no earlier passport of this node on this kind of device"
        return
    yield f"COMPARED with {view.baseline.slot} of {view.baseline.measured_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    yield from (f"  WORSE: {drop}" for drop in view.drops)
    if not view.drops:
        yield "  nothing is worse by more than noise"
