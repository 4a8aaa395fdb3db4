"""One NVLink that is down slows every all-reduce, or stops it."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-nvlink"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare active links with all links; boards without NVLink talk over PCIe and are only warned of."""
    required = "every link active"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    if len(facts.gpus) == 1:
        return passed(ID, observed="one GPU", required="nothing: one GPU talks to no other")
    if all(gpu.nvlinks_total is None for gpu in facts.gpus):
        return warned(
            ID,
            observed="no NVLink is seen",
            required=required,
            remedy="Read `nvidia-smi topo -m`; without NVLink the GPUs talk over PCIe, which is slower.",
        )
    return gpus.judge(
        ID,
        facts,
        wrong=lambda gpu: (
            None if gpu.nvlinks_active is None or gpu.nvlinks_total is None else gpu.nvlinks_active < gpu.nvlinks_total
        ),
        required=required,
        all_right=f"{facts.gpus[0].nvlinks_active} of {facts.gpus[0].nvlinks_total} on each",
        wrong_word="links down",
        remedy="Read `nvidia-smi nvlink --status` and `dmesg | grep NVRM`; restart the node, then reseat the board "
        "or the bridge.",
    )
