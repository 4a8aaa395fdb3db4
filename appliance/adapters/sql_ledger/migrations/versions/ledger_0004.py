"""Add how many tokens of a prompt are of its images, where the engine tells.

Forward only; every row that is there stays as it is, in which that is unknown.
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0004"
down_revision = "ledger_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; no row that is there changes."""
    op.execute("ALTER TABLE usage_record ADD COLUMN image_tokens INTEGER CHECK (image_tokens >= 0)")


def downgrade() -> None:
    """Refuse: going back would delete what was recorded."""
    raise NotImplementedError("the ledger only grows; restore a backup instead")
