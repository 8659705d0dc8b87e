"""No table of evaluations: a trial's own row holds its score."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the table; name the images that a stopped trial saw as `Score` does."""
    op.drop_table("evaluations")
    op.execute(
        sa.text("UPDATE trials SET user_attrs = replace(user_attrs, :old, :new) WHERE state = 'pruned'").bindparams(
            old='"seen":', new='"stopped_after":'
        )
    )
