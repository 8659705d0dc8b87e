"""Leases instead of owners of runs; receipts of transactions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; present owners get leases without a heartbeat."""
    op.create_table(
        "leases",
        sa.Column("name", sa.String(600), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started", sa.String(255), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("renewed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "receipts",
        sa.Column("connection", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("written", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("connection", name="pk_receipts"),
    )
    op.execute(
        "INSERT INTO leases (name, token, host, pid, started, seconds, beats, renewed) "
        "SELECT 'run:' || name, 'before-0003', owner_host, owner_pid, owner_started, 30, 0, 0 "
        "FROM runs WHERE owner_pid IS NOT NULL"
    )
    for column in ("owner_host", "owner_pid", "owner_started"):
        op.drop_column("runs", column)
