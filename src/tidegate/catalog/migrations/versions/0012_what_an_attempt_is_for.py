"""What an attempt is for, and the task that it copies for"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("purpose", sa.String(8), nullable=True))
    op.add_column("uploads", sa.Column("task_id", sa.String(36), nullable=True))
