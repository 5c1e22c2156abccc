"""An image in one row: copies of its properties, tags and locations"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("properties", "tags", "locations"):
        op.add_column("images", sa.Column(name, sa.Text(), nullable=True))
    op.execute(
        """
        UPDATE images SET
          properties = nullif((
            SELECT json_group_object(name, value) FROM image_properties
            WHERE image_id = images.id), '{}'),
          tags = nullif((
            SELECT json_group_array(tag) FROM image_tags WHERE image_id = images.id), '[]'),
          locations = nullif((
            SELECT json_group_array(json_array(store, "key", own, metadata))
            FROM (
              SELECT * FROM image_locations WHERE image_id = images.id ORDER BY position)), '[]')
        """
    )
