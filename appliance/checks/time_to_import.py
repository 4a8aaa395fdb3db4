"""An import that nobody expected to take all night is stopped halfway by someone who means well."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import passed, warned
from appliance.checks.figures import duration, gigabytes, pace
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "time-to-import"
PATH: Final = "/var/lib/leeward"
MAXIMUM_S: Final = 4 * 3600.0


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Divide what is new in the release by the slower of reading the medium and writing the store."""
    if release is None:
        return passed(ID, observed="not asked", required="nothing: no release is named")
    new = demand.new_bytes(release, facts)
    required = f"≤ {duration(MAXIMUM_S)} for {gigabytes(new)} that the store does not hold yet"
    if not new:
        return passed(ID, observed="nothing to copy", required=required)
    paces = {
        "the medium gives": next((t.read_bytes_per_s for t in facts.disk_timings if t.path != PATH), None),
        "the store takes": timing.write_bytes_per_s if (timing := facts.timing(PATH)) else None,
    }
    known = {name: speed for name, speed in paces.items() if speed}
    if not known:
        return warned(
            ID,
            observed="not measured",
            required=required,
            remedy="Name the medium (`--medium`) and run preflight again.",
        )
    name, slowest = min(known.items(), key=lambda item: item[1])
    observed = f"about {duration(new / slowest)}: {name} {pace(slowest)}"
    if "the medium gives" not in known:
        observed += "; the medium was not measured"
    if new / slowest <= MAXIMUM_S:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Use a medium and a port of USB 3 or better, or a disk; an import that is stopped goes on where it was.",
    )
