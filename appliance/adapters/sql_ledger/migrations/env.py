"""Run the ledger's migrations on the connection that `sql_ledger.database` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise TypeError("the ledger's migrations need an open connection")

context.configure(connection=connection, version_table="ledger_schema")
with context.begin_transaction():
    context.run_migrations()
