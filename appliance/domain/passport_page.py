"""A capacity passport as a page of plain text, for people and for paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC

from appliance.domain.acceptance import Figure, GpuStress, Passport, PassportView, drops


def page(view: PassportView) -> str:
    """Return the page; the same passport gives the same text."""
    return "\n".join(_lines(view)) + "\n"


def prediction_lines(passport: Passport) -> Iterator[str]:
    """Set what was predicted against what was measured, one line a figure that has a prediction."""
    yield f"{'FIGURE':<14}{'OF':<16}{'PREDICTED':>12}{'MEASURED':>12}  {'UNIT':<10}{'SHARE':>6}"
    for prediction in passport.predicted:
        found = [f for f in passport.figures if (f.name, f.unit) == (prediction.name, prediction.unit)]
        for figure in found:
            share = f"{figure.value / prediction.value:.0%}" if prediction.value else "--"
            yield (
                f"{figure.name:<14}{figure.subject:<16}{prediction.value:>12,.4g}{figure.value:>12,.4g}"
                f"  {figure.unit:<10}{share:>6}"
            )
        if not found:
            yield f"{prediction.name:<14}{'':<16}{prediction.value:>12,.4g}{'??':>12}  {prediction.unit:<10}{'--':>6}"
    if not passport.predicted:
        yield "nothing was predicted"


def comparison_page(old: Passport, new: Passport) -> str:
    """Return two passports side by side; figures of different kinds of device are not held against each other."""
    return "\n".join(_side_by_side(old, new)) + "\n"


def _side_by_side(old: Passport, new: Passport) -> Iterator[str]:
    yield "TWO PASSPORTS"
    for label, one in (("before", old), ("after", new)):
        yield f"{label:<7} {one.measured_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC  {one.node}  {one.slot}"
        yield f"        on {_counted(one.burn_in.devices)}, engine {one.engine_version}"
        yield f"        operation {one.id}"
        if one.notice:
            yield f"        *** {one.notice} ***"
    yield ""
    if old.burn_in.device is not new.burn_in.device:
        yield f"Not compared: one was measured on {old.burn_in.device}, the other on {new.burn_in.device}."
        return
    yield f"{'FIGURE':<14}{'OF':<16}{'BEFORE':>11}{'AFTER':>11}  {'UNIT':<10}{'CHANGE':>7}"
    worse = {(drop.name, drop.subject, drop.unit) for drop in drops(new, old)}
    before = {(f.name, f.subject, f.unit): f for f in old.figures}
    after = {(f.name, f.subject, f.unit): f for f in new.figures}
    for key in dict.fromkeys((*before, *after)):
        was, is_now = before.get(key), after.get(key)
        yield _pair(key, was, is_now) + ("  WORSE" if key in worse else "")
    yield ""
    yield "WORSE: by more than noise explains. A change without the word may be noise."


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items())


def _pair(key: tuple[str, str, str], was: Figure | None, is_now: Figure | None) -> str:
    name, subject, unit = key
    values = [f"{'--':>11}" if one is None else f"{one.value:>11,.4g}" for one in (was, is_now)]
    change = "--" if was is None or is_now is None or not was.value else f"{is_now.value / was.value - 1:+.0%}"
    return f"{name:<14}{subject:<16}{''.join(values)}  {unit:<10}{change:>7}"


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
