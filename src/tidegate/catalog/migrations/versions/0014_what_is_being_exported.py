"""The keys of stores to which images are being exported"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=True),
        sa.Column("sent_size", sa.BigInteger(), nullable=True),
        sa.Column("sent_digests", sa.JSON(), nullable=True),
        sa.Column("sent_crc64nvme", sa.String(length=20), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store", "key", name="pk_exports"),
    )
    op.create_index("ix_exports_task_id", "exports", ["task_id"])
