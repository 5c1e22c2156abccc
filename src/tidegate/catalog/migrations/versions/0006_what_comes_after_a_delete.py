"""What comes after a delete: its wait, the ids that are never used again, and turns of jobs"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deletions",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("clock", sa.String(length=36), nullable=False),
        sa.Column("tick", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_deletions_image_id"),
        sa.PrimaryKeyConstraint("image_id", name="pk_deletions"),
    )
    op.create_index("ix_deletions_step_clock_tick", "deletions", ["step", "clock", "tick"])
    op.create_index("ix_deletions_step_at", "deletions", ["step", "at"])
    op.create_table(
        "tombstones",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tombstones"),
    )
    op.create_table(
        "turns",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("lease_clock", sa.String(length=36), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_turns"),
    )
    op.create_index("ix_removals_store_key", "removals", ["store", "key"])
    # of what was deleted before, only the wall clock's moment is known
    op.execute(
        """
        INSERT INTO deletions (image_id, step, at, clock, tick)
        SELECT id, CASE status WHEN 'deleted' THEN 'deleted' ELSE 'waiting' END,
               coalesce(deleted_at, updated_at), '', 0
        FROM images WHERE status IN ('deleted', 'pending_delete')
        """
    )
