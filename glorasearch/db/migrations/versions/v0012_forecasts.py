"""How long the stages of a run take, at most."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLE = "glorasearch_forecasts"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        _TABLE,
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["glorasearch_runs.id"], name=f"fk_{_TABLE}_run_id_glorasearch_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "stage", name=f"pk_{_TABLE}"),
    )
