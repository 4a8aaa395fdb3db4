"""Plans: what one is made from, who may approve it, and whether it still holds.

An approval is an entry of the audit log, and nowhere else: what was approved, by whom and when stands
in one place that nobody can change unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.domain.errors import NotPermitted, PlanNotApproved, PlanOutdated
from appliance.domain.events import PlanAccepted
from appliance.domain.node import NodeFacts
from appliance.domain.operation import Actor, OperationId
from appliance.domain.plan import Basis, PlanRecord, facts_that_count, moved, variables_digest
from appliance.ports import AuditLog, Journal, PlanStore
from appliance.services.steps import StepContext
from bundles.release import Release, release_to_bytes

APPROVAL = "plan.approve"
_PAGE = 1_000


def basis_of(release: Release, facts: NodeFacts, variables: Mapping[str, object]) -> Basis:
    """Return what a plan for `release` on this node is made from now."""
    return Basis(
        slot=release.slot,
        release_sha256=hashlib.sha256(release_to_bytes(release)).hexdigest(),
        variables_sha256=variables_digest(variables),
        facts=facts_that_count(facts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """Shows, approves and admits plans; `needs_approval` is the site's decision."""

    store: PlanStore
    audit: AuditLog
    journal: Journal
    needs_approval: bool = False

    def show(self, digest: str) -> PlanRecord:
        """Return a plan; raises NotFound, StateUnusable."""
        return PlanRecord(digest=digest, plan=self.store.plan(digest), approved_by=self._approved_by(digest))

    def approve(self, digest: str, actor: Actor) -> PlanRecord:
        """Record that another than the planner has approved; again, it changes nothing.

        Raises NotFound, StateUnusable, and NotPermitted for the planner's own plan.
        """
        record = self.show(digest)
        if record.plan.made_by == actor.name:
            raise NotPermitted(
                detail=f"{actor.name} made this plan, and nobody approves a plan of their own.",
                remedy="Ask another member of group leeward-admin to run `leeward plan approve`.",
            )
        if record.approved_by:
            return record
        details = {"slot": record.plan.basis.slot, "made_by": record.plan.made_by}
        self.audit.append(actor=actor.name, action=APPROVAL, object_=digest, outcome="approved", details=details)
        return self.show(digest)

    def admit(self, context: StepContext, basis: Basis) -> None:
        """Let an operation go on whose plan holds; call it before the first change.

        What was admitted once in an operation stays so: after a kill or a restart the node differs by
        what the operation itself has done. Raises PlanOutdated, PlanNotApproved, NotFound, StateUnusable.
        """
        if self._is_admitted(context.operation_id):
            return
        digest = context.parameters.get("plan")
        if digest is None:
            self._refuse_without_plan()
            return
        record = self.show(digest)
        if changes := moved(record.plan.basis, basis):
            raise PlanOutdated(
                detail=f"Since the plan was made, this has moved: {'; '.join(changes)}. Nothing was changed.",
                remedy="Make a new plan with `leeward plan`, and have it approved where the site asks for that.",
            )
        if self.needs_approval and not record.approved_by:
            raise PlanNotApproved(
                detail=f"Nobody has approved the plan {digest}, which {record.plan.made_by} made.",
                remedy=f"Another administrator reads and approves it: `leeward plan approve {digest}`.",
            )
        context.emit(PlanAccepted(digest=digest, approved_by=record.approved_by))

    def _refuse_without_plan(self) -> None:
        if self.needs_approval:
            raise PlanNotApproved(
                detail="This site changes a node by an approved plan only (`[plan] second_admin` in leeward.toml).",
                remedy="`leeward import`, `leeward plan`, `leeward plan approve` by another administrator, --plan.",
            )

    def _approved_by(self, digest: str) -> str:
        after, count = 0, self.audit.count()
        while after < count:
            entries = self.audit.entries(after, _PAGE)
            for entry in entries:
                if (entry.action, entry.object, entry.outcome) == (APPROVAL, digest, "approved"):
                    return entry.actor
            if not entries:
                break
            after = entries[-1].seq
        return ""

    def _is_admitted(self, operation_id: OperationId) -> bool:
        after = 0
        while records := self.journal.records(operation_id, after):
            if any(isinstance(record.event, PlanAccepted) for record in records):
                return True
            after = records[-1].seq
        return False
