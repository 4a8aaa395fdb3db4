from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from appliance.domain.errors import DaemonUnreachable, NotPermitted
from appliance.domain.events import EventRecord, Progressed, Unit
from appliance.domain.health import Severity
from appliance.domain.operation import StepName
from appliance.domain.projection import OperationView, fold_all
from console import plain
from console.capabilities import Capabilities, Profile
from console.render import detail, health, operation, text
from console.render.frame import Frame
from console.watch import SAMPLES_KEPT, History, Watch
from tests.tui import recorded
from tests.tui.recorded import NOW, OPERATION

RICH = Capabilities(profile=Profile.RICH)
SERIAL = Capabilities(profile=Profile.SERIAL)
WIDE = Frame(width=116, now=NOW, capabilities=RICH)
NARROW = Frame(width=80, now=NOW, capabilities=SERIAL)


def view_of(scene: list[tuple[timedelta, object]]) -> OperationView:
    began = NOW - timedelta(minutes=12)
    records = [
        EventRecord(operation_id=OPERATION, seq=seq, at=began + passed, event=event)  # type: ignore[arg-type]  # any event
        for seq, (passed, event) in enumerate(scene, start=1)
    ]
    view = fold_all(None, records)
    assert view is not None
    return view


# Small pieces


@pytest.mark.parametrize(("fraction", "drawn"), [(0, "...."), (0.5, "##.."), (1, "####"), (7, "####"), (-1, "....")])
def test_bar_fills_its_width(fraction: float, drawn: str) -> None:
    assert text.bar(fraction, 4, SERIAL).plain == drawn


def test_bar_of_an_unknown_share_is_blank() -> None:
    assert text.bar(None, 4, SERIAL).plain == "    "


def test_spark_shows_the_newest_at_the_right_and_gaps_as_blanks() -> None:
    assert text.spark([0, None, 50, 100], 6, SERIAL, highest=100).plain == "  _ +#"


def test_spark_never_reaches_the_full_block_so_that_stacked_rows_do_not_merge() -> None:
    assert "█" not in text.spark([100, 1000], 2, RICH, highest=100).plain


def test_spark_of_nothing_is_blank() -> None:
    assert text.spark([], 3, RICH).plain == "   "


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (None, "??"),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (141_000_000_000, "141 GB"),
        (3_840_000_000_000, "3.8 TB"),
    ],
)
def test_sizes_are_powers_of_ten(count: int | None, written: str) -> None:
    assert text.size(count) == written


@pytest.mark.parametrize(("seconds", "written"), [(None, "??"), (0, "0:00"), (61, "1:01"), (3661, "1:01:01")])
def test_durations_read_as_a_clock(seconds: float | None, written: str) -> None:
    assert text.minutes(seconds) == written


def test_the_left_end_wins_where_both_do_not_fit() -> None:
    line = text.ends(text.muted("left and long"), text.muted("right"), 15)

    assert line.plain == "left and long"


# Health


@pytest.mark.parametrize("frame", [WIDE, NARROW])
@pytest.mark.parametrize("scene", [recorded.healthy, recorded.hot, recorded.unknown, recorded.empty])
def test_no_health_line_is_wider_than_its_frame(frame: Frame, scene: object) -> None:
    report = scene()  # type: ignore[operator]  # one of the scenes
    watch = Watch().seen(report)

    lines = [
        health.strip(watch, "llm01", frame),
        *health.banner(watch, frame),
        *health.gpu_rows(report, watch.history, frame),
        *health.service_rows(report, watch.history, frame),
        *health.system_rows(report, frame),
    ]

    assert [line.plain for line in lines if line.cell_length > frame.width] == []


def test_unknown_values_are_never_drawn_as_zero() -> None:
    report = recorded.unknown()
    rows = [*health.gpu_rows(report, History(), NARROW)[1:], *health.service_rows(report, History(), NARROW)]

    drawn = "\n".join(row.plain for row in rows)

    assert "?? C" in drawn
    assert "??/?? W" in drawn
    assert "?? running, ?? waiting" in drawn
    assert "p50 ?? ms" in drawn
    assert " 0 C" not in drawn
    assert " 0 %" not in drawn
    assert " ok " not in rows[0].plain


def test_gpu_takes_the_severity_of_the_alert_that_names_it() -> None:
    report = recorded.hot()

    severities = [health.gpu_severity(gpu, report.alerts) for gpu in report.gpus]

    assert severities == [Severity.OK, Severity.OK, Severity.WARN, Severity.OK]


def test_gpu_1_is_not_gpu_11() -> None:
    alert = replace(recorded.hot().alerts[0], title="GPU 11 is hot")

    assert health.gpu_severity(recorded.gpu(1), [alert]) is Severity.OK
    assert health.gpu_severity(recorded.gpu(11), [alert]) is Severity.WARN


def test_stale_rows_lose_their_word_and_keep_their_values() -> None:
    report = recorded.healthy()

    rows = health.gpu_rows(report, History(), replace(NARROW, stale=True))

    assert all(" ?? " in row.plain and " ok " not in row.plain for row in rows[1:])
    assert "585/700 W" in rows[1].plain


def test_stale_strip_does_not_repeat_the_old_verdict() -> None:
    watch = Watch().seen(recorded.hot(NOW - timedelta(seconds=12)))

    strip = health.strip(watch, "llm01", replace(WIDE, stale=True)).plain

    assert "NO FRESH DATA" in strip
    assert "SERVING" not in strip
    assert "warning" not in strip


def test_stale_banner_says_for_how_long() -> None:
    watch = Watch().seen(recorded.hot(NOW - timedelta(seconds=12)))

    banner = health.banner(watch, replace(NARROW, stale=True))[0].plain

    assert banner.startswith("WARN  No new data for 12 s (last 22:13:51Z).")


@pytest.mark.parametrize("frame", [WIDE, NARROW])
def test_what_is_simulated_stands_on_the_strip(frame: Frame) -> None:
    strip = health.strip(Watch().seen(recorded.hot()), "llm01", frame)

    assert "SIMULATED: gpus" in strip.plain
    assert any("reverse" in str(span.style) for span in strip.spans)


def test_nothing_simulated_says_nothing_of_it() -> None:
    assert "SIMULATED" not in health.strip(Watch().seen(recorded.healthy()), "llm01", WIDE).plain


def test_lost_daemon_counts_down_and_up() -> None:
    error = DaemonUnreachable(detail="", remedy="")
    watch = Watch().failed(error, now=NOW - timedelta(seconds=9), retry_at=NOW + timedelta(seconds=2))

    banner = health.banner(watch, NARROW)[0].plain

    assert banner == "FAIL  The management daemon does not answer for 9 s. Retry in 2 s. r: now"
    assert health.is_alarming(watch)


def test_engine_that_is_down_is_said_in_words_without_figures() -> None:
    report = recorded.healthy()
    assert report.engine is not None
    report = replace(report, engine=replace(report.engine, live=False, unit_state="failed"))

    rows = health.service_rows(report, History(), NARROW)

    assert [row.plain for row in rows] == [" ??   The engine is not running; its unit is failed."]


def test_node_without_a_release_shows_no_engine_figures() -> None:
    rows = health.service_rows(recorded.empty(), History(), NARROW)

    assert [row.plain for row in rows] == [" --   No release is installed."]


def test_detail_shows_every_unknown_as_unknown() -> None:
    title, lines = detail.about("gpus", 1, recorded.unknown())

    assert title == "GPU 0"
    drawn = {line.plain.split("  ")[0]: line.plain for line in lines}
    assert drawn["Temperature"].endswith("?? C")
    assert drawn["NVLink"].endswith("?? of ?? links")


def test_a_missing_role_is_not_called_a_missing_daemon() -> None:
    refusal = NotPermitted(detail="j.doe is in no group.", remedy="Ask an administrator.")

    strip = health.strip(Watch().failed(refusal, now=NOW, retry_at=NOW), "llm01", WIDE).plain

    assert "NOTHING CAN BE READ" in strip
    assert "UNREACHABLE" not in strip


def test_paused_screen_says_so() -> None:
    assert "PAUSED" in health.strip(replace(Watch().seen(recorded.healthy()), paused=True), "llm01", NARROW).plain


# The short past


def test_history_keeps_one_sample_an_observation_and_forgets_the_oldest() -> None:
    history = History()
    for second in range(SAMPLES_KEPT + 5):
        report = recorded.healthy(NOW + timedelta(seconds=second))
        history = history.extended(report).extended(report)

    assert len(history.samples) == SAMPLES_KEPT
    assert history.samples[-1].at == NOW + timedelta(seconds=SAMPLES_KEPT + 4)


def test_speed_is_tokens_between_two_looks_and_unknown_across_a_restart() -> None:
    history = History()
    for second, total in enumerate((100, 400, 50, 80)):
        report = recorded.healthy(NOW + timedelta(seconds=3 * second))
        assert report.engine is not None
        history = history.extended(replace(report, engine=replace(report.engine, generation_tokens_total=total)))

    assert history.speed() == [100.0, None, 10.0]


def test_report_turns_stale_with_age_or_with_a_lost_daemon() -> None:
    watch = Watch().seen(recorded.healthy(NOW - timedelta(seconds=5)))

    assert not watch.is_stale(NOW, RICH.stale_after_s)
    assert watch.is_stale(NOW + timedelta(seconds=2), RICH.stale_after_s)
    assert watch.failed(DaemonUnreachable(detail="", remedy=""), now=NOW, retry_at=NOW).is_stale(
        NOW, RICH.stale_after_s
    )
    assert not Watch().is_stale(NOW, RICH.stale_after_s)


# Operations


@pytest.mark.parametrize("frame", [WIDE, NARROW])
@pytest.mark.parametrize("scene", [recorded.installing, recorded.provisioning, recorded.failed, recorded.succeeded])
def test_no_operation_line_is_wider_or_longer_than_its_room(frame: Frame, scene: object) -> None:
    view = view_of(scene())  # type: ignore[operator]  # one of the scenes

    work = operation.work_lines(view, None, frame, 14)
    others = [operation.strip(view, ("gpus",), frame), operation.step_line(view, frame), operation.hint(view)]

    assert len(work) <= 14
    assert [line.plain for line in (*work, *others) if line.cell_length > frame.width] == []


def test_failure_says_what_why_harm_and_remedy() -> None:
    lines = [line.plain for line in operation.result_lines(view_of(recorded.failed()), WIDE)]

    assert lines[0] == "The medium could not be read."
    assert lines[1].startswith("Why      /media/leeward/blobs")
    assert any(line.startswith("Harm     Nothing unverified was put in use") for line in lines)
    assert any(line.startswith("Remedy   Check the cable") for line in lines)
    assert lines[-1] == "Code     media-missing"


def test_failure_shows_its_cause_even_where_many_tasks_ran() -> None:
    view = replace(view_of(recorded.failed()), tasks=view_of(recorded.provisioning()).tasks * 20)

    work = [line.plain for line in operation.work_lines(view, None, NARROW, 14)]

    assert len(work) <= 14
    assert "The medium could not be read." in work
    assert "Code     media-missing" in work


def test_running_operation_says_that_the_console_may_close() -> None:
    hint = operation.hint(view_of(recorded.installing())).plain

    assert hint == "You can close this console: the operation goes on."


def test_ended_operation_does_not_say_that_it_goes_on() -> None:
    for scene in (recorded.failed(), recorded.succeeded()):
        assert "goes on" not in operation.hint(view_of(scene)).plain


def test_time_left_comes_from_bytes_and_only_from_measured_ones() -> None:
    def figure(done: int) -> Progressed:
        return Progressed(step=StepName.IMPORT, label="weights", done=done, total=1000, unit=Unit.BYTES)

    first = operation.pace(None, figure(100), NOW)
    second = operation.pace(first, figure(300), NOW + timedelta(seconds=10))
    again = operation.pace(second, figure(50), NOW + timedelta(seconds=11))

    assert (first.rate_per_s(), first.left_s()) == (None, None)
    assert (second.rate_per_s(), second.left_s()) == (20.0, 35.0)
    assert again.rate_per_s() is None


def test_every_step_says_what_its_failure_leaves_behind() -> None:
    assert set(operation.HARM) == set(StepName) == set(operation.STEP_NAMES)


# Plain text


def test_plain_summary_is_ascii_free_of_control_codes_and_names_what_is_simulated() -> None:
    summary = plain.summary(recorded.status(simulated=("gpus",)), recorded.hot())

    assert "\x1b" not in summary
    assert "SIMULATED  gpus" in summary
    assert "WARN       GPU 2 is hot" in summary


def test_plain_summary_shows_unknown_as_unknown() -> None:
    summary = plain.summary(recorded.status(), recorded.unknown())

    assert "gpu 0      ?? C, ??/?? W" in summary
    assert "?? running, ?? waiting" in summary


def test_gpus_that_no_release_needs_are_not_counted_against_one() -> None:
    report = recorded.healthy()

    assert "4 of 4 present" in health.gpus_note(replace(report, gpus_required=4))
    assert "none needed" in health.gpus_note(replace(report, gpus_required=0))
    assert "of 0" not in health.gpus_note(replace(report, gpus_required=0))
