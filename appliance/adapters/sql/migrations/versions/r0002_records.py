"""The audit log and the licence register, append-only."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = (
    """
    CREATE TABLE audit_entry (
        seq INTEGER NOT NULL PRIMARY KEY,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        object TEXT NOT NULL,
        outcome TEXT NOT NULL,
        details TEXT NOT NULL,
        previous_hash TEXT NOT NULL,
        entry_hash TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE license_terms (
        id INTEGER NOT NULL PRIMARY KEY,
        spdx_id TEXT NOT NULL,
        applies_to TEXT NOT NULL,
        text_sha256 TEXT NOT NULL,
        threshold_usd_monthly INTEGER,
        release TEXT NOT NULL,
        UNIQUE (spdx_id, applies_to, text_sha256, release)
    ) STRICT
    """,
    """
    CREATE TABLE attestation (
        id INTEGER NOT NULL PRIMARY KEY,
        use_month TEXT NOT NULL,
        band TEXT NOT NULL,
        legal_entity TEXT NOT NULL,
        signatory TEXT NOT NULL,
        role TEXT NOT NULL,
        made_at TEXT NOT NULL,
        recorded_by TEXT NOT NULL,
        UNIQUE (use_month, band, legal_entity, signatory, role, made_at, recorded_by)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Make the tables and forbid to change what is in them."""
    for statement in TABLES:
        op.execute(statement)
    for table in ("audit_entry", "license_terms", "attestation"):
        for verb, participle in (("UPDATE", "changed"), ("DELETE", "deleted")):
            op.execute(
                f"CREATE TRIGGER {table}_is_never_{participle} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
