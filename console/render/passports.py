"""Capacity passports as lines: what a node was predicted to do beside what it was measured to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from textual.content import Content

from appliance.domain.acceptance import Passport, PassportView
from appliance.domain.passport_page import comparison_page, page, prediction_lines
from bundles.release import Device
from console.render import text
from console.render.frame import Frame
from console.render.listing import Line, Table


def table(views: tuple[PassportView, ...], marked: Collection[str], frame: Frame) -> Table:
    """Draw one line a passport, newest first; the two that are marked say so."""
    shares = f"{'measured of predicted':<36}" if frame.wide else ""
    header = f"     {'measured':<18}{'release':<14}{'devices':<17}{shares}verdict"
    lines = tuple(_line(view, frame, is_marked=view.passport.id in marked) for view in views)
    empty = "This node has no passport. Measure it with `leeward acceptance`."
    return Table(header=header, lines=lines, empty=empty)


def detail(view: PassportView) -> list[Content]:
    """Draw predicted against measured, then the passport's page."""
    lines = [
        Content.styled("PREDICTED AGAINST MEASURED", "bold $primary"),
        *(Content(line) for line in prediction_lines(view.passport)),
        Content(""),
        *(Content(line) for line in page(view).splitlines()),
    ]
    return [_loud(line) for line in lines]


def comparison(old: Passport, new: Passport) -> list[Content]:
    """Draw two passports side by side."""
    return [_loud(Content(line)) for line in comparison_page(old, new).splitlines()]


def _loud(line: Content) -> Content:
    plain = line.plain
    if plain.lstrip().startswith(("***", "WORSE:", "BELOW BAND", "WRONG RESULT")) or plain.endswith("  WORSE"):
        return Content.styled(plain, "bold $warning")
    return line


def _line(view: PassportView, frame: Frame, *, is_marked: bool) -> Line:
    passport = view.passport
    on_cpu = passport.burn_in.device is Device.CPU
    state = text.OFF if on_cpu else text.OK
    verdict = "the first" if view.baseline is None else "nothing worse"
    if passport.burn_in.wrong:
        state, verdict = text.FAIL, f"computes wrong: {', '.join(passport.burn_in.wrong)}"
    elif view.drops or passport.below_band:
        found = [f"{len(view.drops)} worse"] if view.drops else []
        found += [f"{len(passport.below_band)} below band"] if passport.below_band else []
        state, verdict = text.WARN, ", ".join(found)
    notice = "NOT A GPU" if on_cpu else "SIMULATED" if passport.notice else ""
    devices = ", ".join(f"{count} {name}" for name, count in Counter(passport.burn_in.devices).items())
    shares = f"{text.fit(_share(passport), 35)} " if frame.wide else ""
    rest = Content.assemble(
        f" {passport.measured_at:%Y-%m-%d %H:%MZ} {text.fit(passport.slot, 13)} ",
        f"{text.fit(devices, 16)} {shares}",
        ("marked " if is_marked else "", "bold $primary"),
        (f"{notice} " if notice else "", "bold reverse"),
        verdict,
    )
    return Line(key=passport.id, rest=rest.truncate(frame.width, ellipsis=True), state=state)


def _share(passport: Passport) -> str:
    shares = []
    for prediction in passport.predicted:
        found = [f.value for f in passport.figures if (f.name, f.unit) == (prediction.name, prediction.unit)]
        if found and prediction.value:
            shares.append(f"{prediction.name} {max(found) / prediction.value:.0%}")
    return ", ".join(shares) or "nothing predicted"
