"""The schema: the one place where a column is named.

Times are microseconds since 1970 (UTC). ``crc64nvme`` is an unsigned 64-bit number as text, since
databases have none. A lease is ``lease_until`` seconds on the clock named by ``lease_clock`` (see
``engine``); it is over when it has passed, or when the clock is another one.

An image's properties, tags and locations have tables of their own, to be searched and changed by;
its row keeps a copy of them as JSON, so that to read an image is to read one row.

``deletions`` has a row for each image that was deleted and not purged yet, with the moment of its
``step`` (``waiting``, ``removing``, ``deleted``) on both clocks: ``at`` is the wall clock's,
``tick`` seconds on the clock of leases. ``tombstones`` are the ids of purged images, never used
again.

``exports`` has a row for each key of a store that a task is exporting to, or left behind.

A location is ``unverified`` (else null) that a client registered and nobody here has read yet.

What a namespace of metadata definitions holds is in one table, whatever its kind.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def sortable(column: Column[Any]) -> ColumnElement[Any]:
    """Nulls sort as the empty value, on every engine alike."""
    return func.coalesce(column, text(repr(empty(column)))) if column.nullable else column


def empty(column: Column[Any]) -> str | int:
    return "" if isinstance(column.type, String) else 0


def _image_id() -> Column[str]:
    return Column("image_id", String(36), ForeignKey("images.id"), nullable=False)


images = Table(
    "images",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(255)),
    Column("status", String(16), nullable=False),
    Column("visibility", String(16), nullable=False),
    Column("owner", String(255)),
    Column("protected", Boolean, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("disk_format", String(32)),
    Column("container_format", String(32)),
    Column("min_disk", Integer, nullable=False),
    Column("min_ram", Integer, nullable=False),
    Column("size", BigInteger),
    Column("virtual_size", BigInteger),
    Column("checksum", String(32)),
    Column("hash_algo", String(64)),
    Column("hash_value", String(128)),
    Column("crc64nvme", String(20)),
    Column("declared_size", BigInteger),
    Column("declared_checksum", String(32)),
    Column("was_active", Boolean, nullable=False),
    Column("claim", String(32)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Column("properties", Text),
    Column("tags", Text),
    Column("locations", Text),
    Column("deactivated_by", String(16)),
    Index(None, "created_at", "id"),
    Index(None, "owner", "created_at", "id"),
    Index(None, "visibility", "created_at", "id"),
    Index(None, "name"),
    Index(None, "status", "deleted_at"),
)

for _name in ("name", "status", "disk_format", "container_format", "size", "updated_at"):
    # what a list may be sorted by, as it is sorted by it (``sortable``)
    Index(f"ix_images_by_{_name}", sortable(images.c[_name]), images.c.created_at, images.c.id)

properties = Table(
    "image_properties",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("value", Text),
    Index(None, "name", "value"),
)

tags = Table(
    "image_tags",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("tag", String(255), primary_key=True),
    Index(None, "tag"),
)

locations = Table(
    "image_locations",
    metadata,
    Column("id", Integer, primary_key=True),
    _image_id(),
    Column("position", Integer, nullable=False),
    Column("store", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("own", Boolean, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("scrubbed_at", BigInteger),
    Column("scrub_clock", String(36)),
    Column("scrub_until", Float),
    Column("unverified", Boolean),
    Index(None, "image_id", "position"),
    Index(None, "store", "key"),
)

members = Table(
    "image_members",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("member", String(255), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("can_share", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Index(None, "member", "status"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    _image_id(),
    Column("store", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("upload_id", Text),
    Column("node", String(255), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_clock", String(36)),
    Column("lease_until", Float),
    Column("expected_size", BigInteger),
    Column("received", BigInteger, nullable=False),
    Column("sent_size", BigInteger),
    Column("sent_digests", JSON),
    Column("sent_crc64nvme", String(20)),
    Column("sent_parts", Integer),
    Column("sent_virtual_size", BigInteger),
    Column("failure_reason", String(32)),
    Column("failure_where", String(64)),
    Column("failure_message", Text),
    Column("failure_request_id", String(80)),
    Column("started_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("reserved", BigInteger),
    Column("purpose", String(8)),
    Column("task_id", String(36)),
    Column("sent_disk_format", String(32)),
    Index(None, "image_id", "started_at"),
    Index(None, "ended_at", "lease_until"),
)

deletions = Table(
    "deletions",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("step", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("clock", String(36), nullable=False),
    Column("tick", Float, nullable=False),
    Index(None, "step", "clock", "tick"),
    Index(None, "step", "at"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("id", String(36), primary_key=True),
)

turns = Table(
    "turns",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("lease_clock", String(36)),
    Column("lease_until", Float),
)

removals = Table(
    "removals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("store", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("upload_id", Text),
    Column("attempts", Integer, nullable=False),
    Column("message", Text),
    Column("lease_clock", String(36)),
    Column("lease_until", Float),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "lease_until"),
    Index(None, "store", "key"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("type", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("owner", String(255)),
    Column("input", JSON),
    Column("result", JSON),
    Column("message", Text, nullable=False),
    Column("image_id", String(36)),
    Column("request_id", String(80)),
    Column("user_id", String(255)),
    Column("node", String(255)),
    Column("fence", Integer, nullable=False),
    Column("lease_clock", String(36)),
    Column("lease_until", Float),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("roles", JSON),
    Index(None, "owner", "created_at"),
    Index(None, "image_id"),
    Index(None, "status", "lease_until"),
)

exports = Table(
    "exports",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("task_id", String(36), nullable=False),
    Column("upload_id", Text),
    Column("sent_size", BigInteger),
    Column("sent_digests", JSON),
    Column("sent_crc64nvme", String(20)),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "task_id"),
)

namespaces = Table(
    "metadef_namespaces",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False),
    Column("display_name", String(80)),
    Column("description", Text),
    Column("visibility", String(16), nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("owner", String(255)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("name"),
    Index(None, "created_at", "id"),
    sqlite_autoincrement=True,  # an id is used once
)

definitions = Table(
    "metadef_definitions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("namespace_id", Integer, ForeignKey("metadef_namespaces.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(80), nullable=False),
    Column("content", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("namespace_id", "kind", "name"),
    Index(None, "kind", "name"),
)

resource_types = Table(
    "metadef_resource_types",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)
