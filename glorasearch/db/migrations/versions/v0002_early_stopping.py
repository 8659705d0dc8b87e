"""Evaluations that were stopped early: their bound, and how many images they saw. Earlier ones saw all."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; NULL in both means evaluated to the end."""
    op.add_column("evaluations", sa.Column("bound", sa.Double(), nullable=True))
    op.add_column("evaluations", sa.Column("stopped_after", sa.Integer(), nullable=True))
