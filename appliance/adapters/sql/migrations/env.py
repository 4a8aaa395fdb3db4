"""What Alembic runs: the revisions on the connection that `Database.migrate` opened, in its transaction."""

from alembic import context

from appliance.adapters.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
