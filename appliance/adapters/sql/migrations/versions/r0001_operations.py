"""Operations and their append-only events."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE operation (
        id TEXT NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        parameters TEXT NOT NULL,
        actor_name TEXT NOT NULL,
        actor_uid INTEGER,
        created_at TEXT NOT NULL,
        ended INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    "CREATE UNIQUE INDEX one_unfinished_operation ON operation (ended) WHERE ended = 0",
    """
    CREATE TABLE event (
        operation_id TEXT NOT NULL REFERENCES operation (id),
        seq INTEGER NOT NULL,
        at TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (operation_id, seq)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'event is append-only'); END
    """,
    """
    CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'event is append-only'); END
    """,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
