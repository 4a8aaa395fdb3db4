"""What samples, predictions, bands and earlier passports say about a node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.domain.acceptance import (
    CPU_NOTICE,
    AcceptancePlan,
    Figure,
    GpuStress,
    bands_from_toml,
    below_band,
    capacity_alerts,
    drops,
    notice,
    predicted,
    views,
)
from appliance.domain.errors import RequestInvalid
from appliance.domain.passport_page import page
from appliance.resources import gpu_bands
from bundles.release import Device
from tests.unit.acceptance.made import burn_in, figure, passport
from tests.unit.engine.releases import H200, node, release


def test_a_figure_is_the_median_and_one_outlier_in_ten_does_not_widen_it() -> None:
    made = Figure.of("memory", "CPU", "GB/s", [10.0] * 9 + [1_000.0])

    assert (made.value, made.spread, made.samples) == (10.0, 0.0, 10)


def test_a_figure_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Figure.of("memory", "CPU", "GB/s", [])


def test_a_loss_within_noise_is_no_drop_and_one_beyond_it_is() -> None:
    before = passport(1, figure("memory", 100, spread=0.03))

    assert drops(passport(2, figure("memory", 90, spread=0.03)), before) == ()
    (drop,) = drops(passport(2, figure("memory", 88, spread=0.03)), before)
    assert (drop.before, drop.after, round(drop.change, 3), round(drop.noise, 3)) == (100, 88, 0.12, 0.11)


def test_a_figure_for_which_less_is_better_drops_when_it_rises() -> None:
    quick, slow = (
        passport(n, engine=(figure("time-to-first-token", s, better="lower"),)) for n, s in ((1, 1.0), (2, 2.0))
    )

    assert [drop.name for drop in drops(slow, quick)] == ["time-to-first-token"]
    assert drops(quick, slow) == ()


def test_what_only_one_passport_has_is_not_compared() -> None:
    assert drops(passport(2, figure("p2p", 1)), passport(1, figure("memory", 100))) == ()


def test_an_upgrade_is_held_against_the_last_passport_of_the_release_before() -> None:
    old = [passport(n, figure("memory", 100 + n)) for n in (1, 2)]
    new = passport(3, figure("memory", 50), slot="26.12.0-e2")

    newest = views((*old, new))[0]

    assert newest.passport is new
    assert newest.baseline is old[1]
    assert [drop.before for drop in newest.drops] == [102]


def test_a_node_that_ages_is_held_against_its_first_passport_so_that_small_losses_add_up() -> None:
    newest = views([passport(n, figure("memory", 100 - 3 * n)) for n in range(4)])[0]

    assert newest.baseline is not None
    assert newest.baseline.id == "op-0"
    assert len(newest.drops) == 1


def test_a_passport_of_a_cpu_is_never_compared_with_one_of_gpus() -> None:
    newest = views([passport(1, figure("memory", 3_000), device=Device.CUDA), passport(2, figure("memory", 10))])[0]

    assert newest.baseline is None
    assert newest.drops == ()


def test_a_drop_is_an_alert_only_while_that_release_serves() -> None:
    newest = views([passport(1, figure("memory", 100)), passport(2, figure("memory", 50))])[0]

    assert [alert.code for alert in capacity_alerts(newest, slot="26.11.0-e1")] == ["capacity-drop"]
    assert capacity_alerts(newest, slot="26.12.0-e2") == ()
    assert capacity_alerts(None, slot="26.11.0-e1") == ()


def test_a_gpu_below_its_band_is_named_with_the_source_and_one_within_is_not() -> None:
    figures = (figure("memory", 2_000, subject="GPU 0"), figure("memory", 4_100, subject="GPU 1"))
    measured = burn_in(*figures, device=Device.CUDA, devices=("NVIDIA H200", "NVIDIA H200"))

    (sentence,) = below_band(measured, bands_from_toml(gpu_bands()))

    assert sentence.startswith("memory of GPU 0 is 2000")
    assert "data sheet, H200 SXM" in sentence


def test_a_gpu_that_the_table_does_not_know_has_no_band() -> None:
    measured = burn_in(figure("memory", 1, subject="GPU 0"), device=Device.CUDA, devices=("NVIDIA Unheard-of",))

    assert below_band(measured, bands_from_toml(gpu_bands())) == ()


def test_a_passport_without_a_gpu_says_so_loudly() -> None:
    text = page(views([replace(passport(1, figure("memory", 10)), notice=notice(Device.CPU, ()))])[0])

    assert text.splitlines()[1] == f"*** {CPU_NOTICE} ***"
    assert notice(Device.CUDA, ()) == ""
    assert "SIMULATED" in notice(Device.CUDA, ("gpus",))


def test_the_page_shows_what_is_unknown_as_unknown() -> None:
    seen = GpuStress(index=0, temperature_c=None, power_w=None, clocks_event_reasons=())
    made = passport(1, figure("memory", 10))

    text = page(views([replace(made, burn_in=replace(made.burn_in, stress=(seen,)))])[0])

    assert "at most ?? °C and ?? W" in text
    assert "diagnostics of the GPUs' maker: not run" in text
    assert "COMPARED with nothing" in text


def test_the_kv_cache_is_predicted_by_the_same_arithmetic_that_lets_a_release_start() -> None:
    medium = release("mistral-medium-3.5")
    assert medium.engine is not None
    figures = tuple(figure("memory", 4_000, subject=f"GPU {n}") for n in range(4))

    found = predicted(medium, medium.engine, node(H200).gpus, burn_in(*figures, device=Device.CUDA))

    by_name = {prediction.name: prediction for prediction in found}
    assert by_name["kv-cache"].value > medium.engine.max_model_len
    assert by_name["throughput"].value == pytest.approx(4 * 4_000e9 / 133_605_834_656)


@pytest.mark.parametrize(("name", "value"), [("duration_s", "0"), ("duration_s", "²"), ("concurrency", "-1")])
def test_a_number_out_of_its_range_is_refused(name: str, value: str) -> None:
    with pytest.raises(RequestInvalid, match=name):
        AcceptancePlan.of({name: value})
