"""For whom a task is done: the roles of its caller"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("roles", sa.JSON(), nullable=True))
