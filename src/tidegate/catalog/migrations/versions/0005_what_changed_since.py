"""Images are found by when they were changed"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_images_updated_at_id", "images", ["updated_at", "id"])
