"""What an upload reserves of its project's quota"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("reserved", sa.BigInteger(), nullable=True))
