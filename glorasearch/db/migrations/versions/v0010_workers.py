"""Who evaluates the candidates of a run, and how busy each is."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLE = "glorasearch_workers"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        _TABLE,
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("process", sa.Integer(), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("busy", sa.Double(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["glorasearch_runs.id"], name=f"fk_{_TABLE}_run_id_glorasearch_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=f"pk_{_TABLE}"),
    )
