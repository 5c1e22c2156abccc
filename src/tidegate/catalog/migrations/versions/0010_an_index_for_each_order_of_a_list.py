"""An index for each order of a list"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_images_updated_at_id", "images")
    for name, order in (
        ("name", "coalesce(name, '')"),
        ("status", "status"),
        ("disk_format", "coalesce(disk_format, '')"),
        ("container_format", "coalesce(container_format, '')"),
        ("size", "coalesce(size, 0)"),
        ("updated_at", "updated_at"),
    ):
        op.execute(f"CREATE INDEX ix_images_by_{name} ON images ({order}, created_at, id)")
