"""Metadata definitions: namespaces, what they hold, and the types of resources they are for"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metadef_namespaces",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("display_name", sa.String(length=80), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_metadef_namespaces"),
        sa.UniqueConstraint("name", name="uq_metadef_namespaces_name"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_metadef_namespaces_created_at_id", "metadef_namespaces", ["created_at", "id"]
    )
    op.create_table(
        "metadef_definitions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("namespace_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["metadef_namespaces.id"], name="fk_metadef_definitions_namespace_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_metadef_definitions"),
        sa.UniqueConstraint(
            "namespace_id", "kind", "name", name="uq_metadef_definitions_namespace_id_kind_name"
        ),
    )
    op.create_index("ix_metadef_definitions_kind_name", "metadef_definitions", ["kind", "name"])
    op.create_table(
        "metadef_resource_types",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_metadef_resource_types"),
    )
