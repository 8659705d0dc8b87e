"""What Alembic runs: the migrations, on the connection (and in the transaction) that `schema.upgrade` gives."""

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
