"""Run by Alembic: the migrations, in the transaction of the connection that `schema.upgrade` passes."""

from alembic import context

from glorasearch.db.models import Base
from glorasearch.db.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
