"""How Alembic runs our migrations: on the connection that the caller has opened, see `storage.database`."""

from alembic import context

from evcharge.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
