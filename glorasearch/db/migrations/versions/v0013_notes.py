"""What people have noted of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TABLE = "glorasearch_notes"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        _TABLE,
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["glorasearch_runs.id"], name=f"fk_{_TABLE}_run_id_glorasearch_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=f"pk_{_TABLE}"),
    )
