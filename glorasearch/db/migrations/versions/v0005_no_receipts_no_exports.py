"""No receipts of transactions, as PostgreSQL itself knows which were committed; no exports, which stages record."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the tables."""
    op.drop_table("receipts")
    op.drop_table("exports")
