"""With access control on PCI bridges GPUs talk through the processor; NCCL is slow with it, or hangs."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "acs"
_SHOWN: Final = 4


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Look for redirecting bridges on a real machine; in a virtual one they keep machines apart and must stay.

    Source: NCCL's troubleshooting guide, PCI Access Control Services.
    """
    required = "no redirecting bridge"
    if demand.gpus(release) <= 1:
        return passed(ID, observed="not asked", required="nothing: no two GPUs are asked for")
    if facts.virtualization == "machine":
        return passed(ID, observed="a virtual machine", required="nothing: the machine below it decides")
    if facts.acs_redirecting == ():
        return passed(ID, observed="none", required=required)
    remedy = "Turn ACS (and SR-IOV's need for it) off in the firmware; `lspci -vvv | grep ACSCtl` shows what is left."
    if facts.acs_redirecting is None:
        return warned(ID, observed="unknown", required=required, remedy=remedy)
    more = len(facts.acs_redirecting) - _SHOWN
    told = ", ".join(facts.acs_redirecting[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return warned(ID, observed=f"redirecting: {told}", required=required, remedy=remedy)
