"""The common half of the checks on GPUs: when there is nothing to ask, and how to name the wrong ones."""

from __future__ import annotations

from collections.abc import Callable

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import Gpu, NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release


def unasked(check: str, facts: NodeFacts, release: Release | None, *, required: str) -> Finding | None:
    """Conclude where no GPU is needed or none can be seen; `None` where the check must look."""
    if release is not None and not demand.gpus(release):
        return passed(check, observed="not needed", required=demand.nothing(release))
    if facts.gpus:
        return None
    if release is None:
        return passed(check, observed="no GPU is seen", required=demand.nothing(release))
    return warned(
        check,
        observed="unknown: " + (facts.driver_error or "the driver shows no GPU"),
        required=required,
        remedy="See to the finding on the GPU driver first; this check answers once the driver is loaded.",
    )


def judge(
    check: str,
    facts: NodeFacts,
    *,
    wrong: Callable[[Gpu], bool | None],
    required: str,
    all_right: str,
    wrong_word: str,
    remedy: str,
) -> Finding:
    """Conclude from one question to every GPU; `None` as an answer is unknown and only warned of."""
    answers = [(gpu, wrong(gpu)) for gpu in facts.gpus]
    guilty = [gpu for gpu, answer in answers if answer]
    if guilty:
        return failed(check, observed=f"{wrong_word}: {named(guilty)}", required=required, remedy=remedy)
    unknown = [gpu for gpu, answer in answers if answer is None]
    if unknown:
        return warned(
            check,
            observed=f"unknown: {named(unknown)}",
            required=required,
            remedy="Read `nvidia-smi -q` on the node: the driver does not give this value to NVML.",
        )
    return passed(check, observed=all_right, required=required)


def named(gpus: list[Gpu]) -> str:
    """Return `GPU 0, GPU 3 (0000:18:00.0)` and the like, as people find them in the chassis."""
    return ", ".join(f"GPU {gpu.index}" + (f" ({gpu.pci_bus_id})" if gpu.pci_bus_id else "") for gpu in gpus)
