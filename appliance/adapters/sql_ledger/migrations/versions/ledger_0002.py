"""Add teams, quotas, the terms of keys, and what quotas and repeated requests need of usage records.

Forward only; every row that is there stays as it is. Teams and quotas are append-only: the newest
row of a team, or of a quota, is the one that holds. The teams of existing keys become teams of the
legal entity `site`, with standard priority, which is what they were before there were classes.

A key may now be given an end in the future (rotation); while that lies ahead it can come nearer.
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0002"
down_revision = "ledger_0001"
branch_labels = None
depends_on = None

_TEAM = """
CREATE TABLE team (
    seq       INTEGER PRIMARY KEY,
    team      TEXT NOT NULL CHECK (team <> ''),
    entity    TEXT NOT NULL CHECK (entity <> ''),
    priority  TEXT NOT NULL CHECK (priority IN ('interactive', 'standard', 'batch')),
    set_at_us INTEGER NOT NULL
) STRICT
"""

_QUOTA = """
CREATE TABLE quota (
    seq       INTEGER PRIMARY KEY,
    scope     TEXT NOT NULL CHECK (scope IN ('key', 'team', 'entity')),
    subject   TEXT NOT NULL CHECK (subject <> ''),
    kind      TEXT NOT NULL CHECK (kind IN ('tokens/minute', 'tokens/day', 'tokens/month', 'requests/minute',
                                            'requests/day', 'requests/month', 'concurrency')),
    amount    INTEGER CHECK (amount >= 0),
    set_at_us INTEGER NOT NULL
) STRICT
"""

_COLUMNS = (
    "ALTER TABLE api_key ADD COLUMN holder TEXT CHECK (holder <> '')",
    "ALTER TABLE api_key ADD COLUMN holder_kind TEXT CHECK (holder_kind IN ('person', 'program'))",
    "ALTER TABLE api_key ADD COLUMN expires_at_us INTEGER",
    "ALTER TABLE api_key ADD COLUMN models TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE api_key ADD COLUMN networks TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE api_key ADD COLUMN replaces TEXT REFERENCES api_key (key_id)",
    "ALTER TABLE usage_record ADD COLUMN charged_tokens INTEGER CHECK (charged_tokens >= 0)",
    "ALTER TABLE usage_record ADD COLUMN idempotency_mac TEXT CHECK (length(idempotency_mac) = 64)",
    "ALTER TABLE usage_record ADD COLUMN body_mac TEXT CHECK (length(body_mac) = 64)",
)

_INDEXES = (
    "CREATE INDEX team_newest ON team (team, seq)",
    "CREATE INDEX usage_record_admitted ON usage_record (admitted_at_us)",
    ("CREATE INDEX usage_record_idempotent ON usage_record (idempotency_mac, seq) WHERE idempotency_mac IS NOT NULL"),
)

_OLD_TEAMS = """
INSERT INTO team (team, entity, priority, set_at_us)
SELECT team, 'site', 'standard', min(created_at_us) FROM api_key GROUP BY team ORDER BY 4, 1
"""

_TRIGGERS = (
    "DROP TRIGGER api_key_is_only_revoked",
    """
    CREATE TRIGGER api_key_is_only_revoked BEFORE UPDATE ON api_key
    WHEN NEW.revoked_at_us IS NULL
      OR (OLD.revoked_at_us IS NOT NULL
          AND (OLD.revoked_at_us <= CAST(strftime('%s', 'now') AS INTEGER) * 1000000
               OR NEW.revoked_at_us >= OLD.revoked_at_us))
      OR NEW.key_id IS NOT OLD.key_id OR NEW.name IS NOT OLD.name OR NEW.team IS NOT OLD.team
      OR NEW.prefix IS NOT OLD.prefix OR NEW.secret_sha256 IS NOT OLD.secret_sha256
      OR NEW.created_at_us IS NOT OLD.created_at_us
      OR NEW.holder IS NOT OLD.holder OR NEW.holder_kind IS NOT OLD.holder_kind
      OR NEW.expires_at_us IS NOT OLD.expires_at_us OR NEW.models IS NOT OLD.models
      OR NEW.networks IS NOT OLD.networks OR NEW.replaces IS NOT OLD.replaces
    BEGIN SELECT RAISE(ABORT, 'an API key can only be revoked, once'); END
    """,
    """
    CREATE TRIGGER api_key_has_a_team BEFORE INSERT ON api_key
    WHEN NOT EXISTS (SELECT 1 FROM team WHERE team = NEW.team)
    BEGIN SELECT RAISE(ABORT, 'an API key belongs to a team'); END
    """,
    """
    CREATE TRIGGER usage_record_keeps_its_macs BEFORE UPDATE ON usage_record
    WHEN NEW.idempotency_mac IS NOT OLD.idempotency_mac OR NEW.body_mac IS NOT OLD.body_mac
    BEGIN SELECT RAISE(ABORT, 'a usage record keeps its identity'); END
    """,
    *(
        f"""
        CREATE TRIGGER {table}_{name} BEFORE {act} ON {table}
        {condition} BEGIN SELECT RAISE(ABORT, 'what was set stays on record; set it anew'); END
        """
        for table in ("team", "quota")
        for name, act, condition in (
            ("keeps", "UPDATE", ""),
            ("stays", "DELETE", ""),
            ("is_new", "INSERT", f"WHEN NEW.seq IN (SELECT seq FROM {table})"),  # noqa: S608  both names stand below
        )
    ),
)


def upgrade() -> None:
    """Add what is new; no row that is there changes."""
    for statement in (_TEAM, _QUOTA, *_COLUMNS, *_INDEXES, _OLD_TEAMS, *_TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: going back would delete what was set."""
    raise NotImplementedError("the ledger only grows; restore a backup instead")
