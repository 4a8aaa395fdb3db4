"""What every finding promises, for any node at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.checks import CHECKS
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Outcome
from appliance.services import preflight
from bundles.release import Release
from tests.nodes import names, node
from tests.unit.checks.releases import CPU, CUDA, CUDA_WITHOUT_DRIVER

NODES = {name: node(name) for name in names()}
FIELDS = sorted(NodeFacts.__dataclass_fields__)


@st.composite
def mixed_nodes(draw: st.DrawFn) -> NodeFacts:
    """Draw each fact from one of the nodes: most of these machines could not exist, and all must be judged."""
    chosen: dict[str, Any] = {}
    for field in FIELDS:
        chosen[field] = getattr(NODES[draw(st.sampled_from(sorted(NODES)))], field)
    return NodeFacts(**chosen)


RELEASES = st.sampled_from([None, CPU, CUDA, CUDA_WITHOUT_DRIVER])


@given(mixed_nodes(), RELEASES)
def test_a_finding_blocks_if_and_only_if_it_fails_and_tells_what_to_do_unless_it_passes(
    facts: NodeFacts, release: Release | None
) -> None:
    findings = preflight.evaluate(facts, release)

    assert [finding.check for finding in findings] == [check.id for check in CHECKS]
    for finding in findings:
        assert finding.blocking == (finding.outcome is Outcome.FAIL)
        assert bool(finding.remedy) == (finding.outcome is not Outcome.PASS)
        assert finding.observed
        assert finding.required


@given(mixed_nodes(), RELEASES, st.integers(0, 10**13))
def test_more_room_never_turns_a_pass_into_a_failure(facts: NodeFacts, release: Release | None, more: int) -> None:
    roomier = replace(
        facts, filesystems=tuple(replace(place, free_bytes=place.free_bytes + more) for place in facts.filesystems)
    )

    before = {f.check for f in preflight.blocking(preflight.evaluate(facts, release))}
    after = {f.check for f in preflight.blocking(preflight.evaluate(roomier, release))}

    assert after <= before


@given(mixed_nodes())
def test_no_gpu_can_stop_a_release_that_needs_none(facts: NodeFacts) -> None:
    stops = preflight.blocking(preflight.evaluate(facts, CPU))

    assert not [finding for finding in stops if finding.check.startswith(("gpu-", "nouveau", "secure-boot"))]


def test_check_ids_are_unique_and_titles_too() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert len({check.title for check in CHECKS}) == len(CHECKS)
