"""Add the id by which a caller itself knows a request, where it gave one.

Forward only; every row that is there stays as it is, with no such id.
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0003"
down_revision = "ledger_0002"
branch_labels = None
depends_on = None

_COLUMN = """
ALTER TABLE usage_record ADD COLUMN caller_request_id TEXT CHECK (length(caller_request_id) BETWEEN 1 AND 64)
"""
_TRIGGER = """
CREATE TRIGGER usage_record_keeps_its_callers_id BEFORE UPDATE ON usage_record
WHEN NEW.caller_request_id IS NOT OLD.caller_request_id
BEGIN SELECT RAISE(ABORT, 'a usage record keeps its identity'); END
"""


def upgrade() -> None:
    """Add what is new; no row that is there changes."""
    for statement in (_COLUMN, _TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: going back would delete what was recorded."""
    raise NotImplementedError("the ledger only grows; restore a backup instead")
