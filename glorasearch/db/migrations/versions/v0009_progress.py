"""How far the stages of a run are."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLE = "glorasearch_progress"


def upgrade() -> None:
    """Create the table; of what was done before it only the results are known."""
    op.create_table(
        _TABLE,
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("first_done", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["glorasearch_runs.id"], name=f"fk_{_TABLE}_run_id_glorasearch_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "stage", name=f"pk_{_TABLE}"),
    )
