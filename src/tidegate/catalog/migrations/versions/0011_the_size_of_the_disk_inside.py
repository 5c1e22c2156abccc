"""The size of the disk inside, of an attempt that is being published"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("sent_virtual_size", sa.BigInteger(), nullable=True))
