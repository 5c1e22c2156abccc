"""The routes of metadata definitions."""

from functools import partial

from aiohttp.typedefs import Handler

from tidegate.api.v2.metadefs import contents, namespaces, schemas
from tidegate.domain.metadef import Kind

_ALL = "/v2/metadefs/namespaces"
_ONE = f"{_ALL}/{{namespace:[^/]+}}"
_NAME = "{name:[^/]+}"
_OBJECTS, _PROPERTIES = f"{_ONE}/objects", f"{_ONE}/properties"
_TAGS, _TYPES = f"{_ONE}/tags", f"{_ONE}/resource_types"

METADEF_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", _ALL, namespaces.list_namespaces),
    ("POST", _ALL, namespaces.create_namespace),
    ("GET", _ONE, namespaces.show_namespace),
    ("PUT", _ONE, namespaces.change_namespace),
    ("DELETE", _ONE, namespaces.delete_namespace),
    ("GET", _OBJECTS, contents.list_objects),
    ("POST", _OBJECTS, partial(contents.add, Kind.OBJECT)),
    ("DELETE", _OBJECTS, partial(contents.delete_all, Kind.OBJECT)),
    ("GET", f"{_OBJECTS}/{_NAME}", partial(contents.show, Kind.OBJECT)),
    ("PUT", f"{_OBJECTS}/{_NAME}", partial(contents.change, Kind.OBJECT)),
    ("DELETE", f"{_OBJECTS}/{_NAME}", partial(contents.delete, Kind.OBJECT)),
    ("GET", _PROPERTIES, contents.list_properties),
    ("POST", _PROPERTIES, partial(contents.add, Kind.PROPERTY)),
    ("DELETE", _PROPERTIES, partial(contents.delete_all, Kind.PROPERTY)),
    ("GET", f"{_PROPERTIES}/{_NAME}", contents.show_property),
    ("PUT", f"{_PROPERTIES}/{_NAME}", partial(contents.change, Kind.PROPERTY)),
    ("DELETE", f"{_PROPERTIES}/{_NAME}", partial(contents.delete, Kind.PROPERTY)),
    ("GET", _TAGS, contents.list_tags),
    ("POST", _TAGS, contents.add_tags),
    ("DELETE", _TAGS, partial(contents.delete_all, Kind.TAG)),
    ("GET", f"{_TAGS}/{_NAME}", partial(contents.show, Kind.TAG)),
    ("POST", f"{_TAGS}/{_NAME}", contents.add_tag),
    ("PUT", f"{_TAGS}/{_NAME}", partial(contents.change, Kind.TAG)),
    ("DELETE", f"{_TAGS}/{_NAME}", partial(contents.delete, Kind.TAG)),
    ("GET", _TYPES, contents.list_associations),
    ("POST", _TYPES, partial(contents.add, Kind.ASSOCIATION)),
    ("DELETE", f"{_TYPES}/{_NAME}", partial(contents.delete, Kind.ASSOCIATION)),
    ("GET", "/v2/metadefs/resource_types", namespaces.list_resource_types),
    ("GET", "/v2/schemas/metadefs/{name}", schemas.show_schema),
)
