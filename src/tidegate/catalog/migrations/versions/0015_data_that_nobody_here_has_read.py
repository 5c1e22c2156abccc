"""Data of registered locations that the gateway has not read itself"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("image_locations", sa.Column("unverified", sa.Boolean(), nullable=True))
    # which of them were read at their registration, no row has told so far
    op.execute(
        "UPDATE image_locations SET unverified = true "
        "WHERE NOT own AND (key LIKE 'http://%' OR key LIKE 'https://%')"
    )
