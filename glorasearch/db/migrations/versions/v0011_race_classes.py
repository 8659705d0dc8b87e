"""What metrics that take classes alike are made of, where one of them judges a race."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; races so far were judged without."""
    op.add_column("glorasearch_race_members", sa.Column("judged", sa.Text(), nullable=True))
