"""The format that an attempt gave to the data of its image"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("sent_disk_format", sa.String(32), nullable=True))
