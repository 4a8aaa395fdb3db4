"""Make the tables of keys and usage, and the triggers that keep history.

What the triggers hold, whoever writes (only a person with the file and a will can drop them):
a usage record starts as admitted, closes once, and never changes its identity; a key can only be
revoked, once; nothing is deleted, also not by way of INSERT OR REPLACE.
"""

from __future__ import annotations

from alembic import op

revision = "ledger_0001"
down_revision = None
branch_labels = None
depends_on = None

_API_KEY = """
CREATE TABLE api_key (
    key_id        TEXT PRIMARY KEY NOT NULL,
    name          TEXT NOT NULL CHECK (name <> ''),
    team          TEXT NOT NULL CHECK (team <> ''),
    prefix        TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL UNIQUE CHECK (length(secret_sha256) = 64),
    created_at_us INTEGER NOT NULL,
    revoked_at_us INTEGER
) STRICT
"""

_USAGE_RECORD = """
CREATE TABLE usage_record (
    seq               INTEGER PRIMARY KEY,
    request_id        TEXT NOT NULL UNIQUE CHECK (length(request_id) = 36),
    boot_id           TEXT NOT NULL,
    state             TEXT NOT NULL CHECK (state IN ('admitted', 'settled', 'partial', 'abandoned')),
    key_id            TEXT NOT NULL REFERENCES api_key (key_id),
    team              TEXT NOT NULL,
    model             TEXT NOT NULL,
    endpoint          TEXT NOT NULL,
    stream            INTEGER NOT NULL CHECK (stream IN (0, 1)),
    admitted_at_us    INTEGER NOT NULL,
    first_token_at_us INTEGER,
    settled_at_us     INTEGER,
    http_status       INTEGER,
    outcome           TEXT NOT NULL,
    finish_reason     TEXT,
    prompt_tokens     INTEGER CHECK (prompt_tokens >= 0),
    completion_tokens INTEGER CHECK (completion_tokens >= 0),
    cached_tokens     INTEGER CHECK (cached_tokens >= 0),
    reasoning_tokens  INTEGER CHECK (reasoning_tokens >= 0),
    usage_source      TEXT NOT NULL CHECK (usage_source IN ('final', 'continuous', 'none')),
    CHECK ((state = 'admitted') = (settled_at_us IS NULL)),
    CHECK ((state = 'settled') = (usage_source = 'final'))
) STRICT
"""

_UNSETTLED = "CREATE INDEX usage_record_unsettled ON usage_record (boot_id) WHERE state = 'admitted'"

_TRIGGERS = (
    """
    CREATE TRIGGER usage_record_starts_admitted BEFORE INSERT ON usage_record
    WHEN NEW.state <> 'admitted' OR NEW.usage_source <> 'none'
      OR EXISTS (SELECT 1 FROM usage_record WHERE request_id = NEW.request_id OR seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'a usage record starts as admitted, under a new request id'); END
    """,
    """
    CREATE TRIGGER usage_record_closes_once BEFORE UPDATE ON usage_record
    WHEN OLD.state <> 'admitted'
    BEGIN SELECT RAISE(ABORT, 'a closed usage record does not change'); END
    """,
    """
    CREATE TRIGGER usage_record_keeps_identity BEFORE UPDATE ON usage_record
    WHEN NEW.seq IS NOT OLD.seq OR NEW.request_id IS NOT OLD.request_id OR NEW.boot_id IS NOT OLD.boot_id
      OR NEW.key_id IS NOT OLD.key_id OR NEW.team IS NOT OLD.team OR NEW.model IS NOT OLD.model
      OR NEW.endpoint IS NOT OLD.endpoint OR NEW.stream IS NOT OLD.stream
      OR NEW.admitted_at_us IS NOT OLD.admitted_at_us
    BEGIN SELECT RAISE(ABORT, 'a usage record keeps its identity'); END
    """,
    """
    CREATE TRIGGER usage_record_stays BEFORE DELETE ON usage_record
    BEGIN SELECT RAISE(ABORT, 'a usage record is not deleted'); END
    """,
    """
    CREATE TRIGGER api_key_starts_valid BEFORE INSERT ON api_key
    WHEN NEW.revoked_at_us IS NOT NULL
      OR EXISTS (SELECT 1 FROM api_key WHERE key_id = NEW.key_id OR secret_sha256 = NEW.secret_sha256)
    BEGIN SELECT RAISE(ABORT, 'an API key starts valid, under a new id and secret'); END
    """,
    """
    CREATE TRIGGER api_key_is_only_revoked BEFORE UPDATE ON api_key
    WHEN OLD.revoked_at_us IS NOT NULL OR NEW.revoked_at_us IS NULL
      OR NEW.key_id IS NOT OLD.key_id OR NEW.name IS NOT OLD.name OR NEW.team IS NOT OLD.team
      OR NEW.prefix IS NOT OLD.prefix OR NEW.secret_sha256 IS NOT OLD.secret_sha256
      OR NEW.created_at_us IS NOT OLD.created_at_us
    BEGIN SELECT RAISE(ABORT, 'an API key can only be revoked, once'); END
    """,
    """
    CREATE TRIGGER api_key_stays BEFORE DELETE ON api_key
    BEGIN SELECT RAISE(ABORT, 'an API key is not deleted'); END
    """,
)


def upgrade() -> None:
    """Make everything; the ledger is empty before."""
    for statement in (_API_KEY, _USAGE_RECORD, _UNSETTLED, *_TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: going back would delete usage records."""
    raise NotImplementedError("the ledger only grows; restore a backup instead")
