"""Container engines open ports, rewrite the firewall's rules and run programs that nobody counted on."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "container-engines"
_UNITS: Final = (
    "docker.service",
    "containerd.service",
    "crio.service",
    "k3s.service",
    "kubelet.service",
    "podman.service",
)


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for the services of the known ones."""
    required = "none"
    if facts.services is None:
        return warned(ID, observed="unknown", required=required, remedy="Run `systemctl list-units '*docker*'`.")
    running = [unit for unit in _UNITS if unit in facts.services]
    if not running:
        return passed(ID, observed="none", required=required)
    return warned(
        ID,
        observed=", ".join(running),
        required=required,
        remedy="Use a node that serves nothing else, or stop the service: `systemctl disable --now` and its name.",
    )
