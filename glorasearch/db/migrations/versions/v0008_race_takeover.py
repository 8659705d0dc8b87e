"""What a training of a race depends on, by which other runs find it, and the run that did it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TABLE = "glorasearch_race_members"


def upgrade() -> None:
    """Add the columns; what was trained before is not taken over."""
    op.add_column(_TABLE, sa.Column("training", sa.String(64), nullable=True))
    op.add_column(_TABLE, sa.Column("from_run", sa.Text(), nullable=True))
    op.create_index(f"ix_{_TABLE}_training", _TABLE, ["training"])
