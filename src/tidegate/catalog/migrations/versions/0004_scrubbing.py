"""When the bytes of a location were last found good"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("scrubbed_at", sa.BigInteger(), nullable=True),
        sa.Column("scrub_clock", sa.String(36), nullable=True),
        sa.Column("scrub_until", sa.Float(), nullable=True),
    ):
        op.add_column("image_locations", column)
