"""The units' limits of memory, processor and network hold only in the one hierarchy of cgroup v2."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "cgroup-v2"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask which hierarchy is mounted."""
    required = "cgroup v2 alone"
    if facts.cgroup_unified:
        return passed(ID, observed="cgroup v2", required=required)
    remedy = (
        "Take `systemd.unified_cgroup_hierarchy=0` off the kernel's command line in /etc/default/grub, run "
        "`update-grub` and restart."
    )
    if facts.cgroup_unified is None:
        return warned(ID, observed="unknown", required=required, remedy="Read `stat -fc %T /sys/fs/cgroup`. " + remedy)
    return failed(ID, observed="cgroup v1, or both", required=required, remedy=remedy)
