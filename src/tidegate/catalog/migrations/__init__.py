"""Schema migrations (Alembic); a migration that has landed is never edited."""
