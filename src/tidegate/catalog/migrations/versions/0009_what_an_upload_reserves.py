"""What an upload reserves of its project's quota"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("reserved", sa.BigInteger(), nullable=True))
