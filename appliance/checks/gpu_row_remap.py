"""A row that waits for its remapping, or could not be remapped, is faulty memory in use.

Source: NVIDIA GPU Memory Error Management: pending asks for a reset, failure for a replacement.
"""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.domain.node import Gpu, NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-row-remap"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU for pending and failed remappings."""
    required = "neither pending nor failed"
    return gpus.unasked(ID, facts, release, required=required) or gpus.judge(
        ID,
        facts,
        wrong=_is_wrong,
        required=required,
        all_right="none",
        wrong_word="failed" if any(gpu.row_remap_failed for gpu in facts.gpus) else "pending",
        remedy="Pending: restart the node. Failed: have the GPU replaced; `nvidia-smi -q -d ROW_REMAPPER` proves it.",
    )


def _is_wrong(gpu: Gpu) -> bool | None:
    if gpu.row_remap_pending or gpu.row_remap_failed:
        return True
    return None if gpu.row_remap_pending is None or gpu.row_remap_failed is None else False
