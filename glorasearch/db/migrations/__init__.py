"""Alembic migrations of the database, run by `glorasearch.db.schema`."""
