"""Alembic's folder: the schema of `leeward.db` as a chain of revisions, each forward only."""
