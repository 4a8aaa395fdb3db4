"""An engine that computes on the CPU needs vector instructions; without AVX2 it ends on its first token."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.checks.demand import computes_on
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Device, Release

ID: Final = "cpu-flags"
_FAST: Final = frozenset({"avx512f", "avx512bw", "avx512vl"})


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask for AVX-512 where the engine computes on the CPU, and put up with AVX2."""
    if computes_on(release) is not Device.CPU:
        return passed(ID, observed=_observed(facts), required="nothing: the engine does not compute on the CPU")
    required = "avx512f, avx512bw and avx512vl, or avx2 (slower)"
    if facts.cpu_flags >= _FAST:
        return passed(ID, observed=_observed(facts), required=required)
    remedy = "Use a processor with AVX-512, or, in a virtual machine, pass the host's processor through unchanged."
    if "avx2" in facts.cpu_flags:
        return warned(ID, observed=_observed(facts), required=required, remedy=remedy)
    return failed(ID, observed=_observed(facts), required=required, remedy=remedy)


def _observed(facts: NodeFacts) -> str:
    seen = sorted((_FAST | {"avx2"}) & facts.cpu_flags)
    return ", ".join(seen) if seen else "neither AVX-512 nor AVX2"
