"""Run by Alembic on the connection of ``catalog.upgrade``, already in a transaction."""

from alembic import context

from tidegate.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
