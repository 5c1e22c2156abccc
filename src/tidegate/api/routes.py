"""Every route, in one table."""

from aiohttp import web
from aiohttp.typedefs import Handler

from tidegate.api import health, pictures
from tidegate.api.body import continue_later
from tidegate.api.openapi.document import show_document
from tidegate.api.v1 import images as v1
from tidegate.api.v1 import lists as v1_lists
from tidegate.api.v1 import members as v1_members
from tidegate.api.v2 import (
    actions,
    cache,
    data,
    discovery,
    images,
    imports,
    locations,
    members,
    schemas,
    stores,
    tasks,
)
from tidegate.api.v2.metadefs.routes import METADEF_ROUTES

_IMAGE = "/v2/images/{image_id}"
_IMAGE_V1 = "/v1/images/{image_id}"

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/healthz", health.healthz),
    ("GET", "/readyz", health.readyz),
    ("GET", "/healthcheck", health.healthcheck),
    ("HEAD", "/healthcheck", health.healthcheck),
    ("GET", "/metrics", health.metrics),
    ("GET", "/statuses.svg", pictures.statuses),
    ("GET", "/openapi.json", show_document),
    ("*", "/", discovery.choices),
    ("*", "/versions", discovery.choices),
    ("*", "/versions/", discovery.choices),
    ("*", "/v1", discovery.choices),
    ("*", "/v2", discovery.choices),
    ("*", "/v2/", discovery.choices),
    ("POST", "/v2/images", images.create_image),
    ("GET", "/v2/images", images.list_images),
    ("GET", _IMAGE, images.show_image),
    ("PATCH", _IMAGE, images.change_image),
    ("DELETE", _IMAGE, images.delete_image),
    ("GET", f"{_IMAGE}/file", data.get_file),
    ("HEAD", f"{_IMAGE}/file", data.get_file),
    ("GET", f"{_IMAGE}/uploads", data.list_uploads),
    ("POST", f"{_IMAGE}/actions/deactivate", actions.deactivate),
    ("POST", f"{_IMAGE}/actions/reactivate", actions.reactivate),
    ("PUT", f"{_IMAGE}/tags/{{tag}}", images.put_tag),
    ("DELETE", f"{_IMAGE}/tags/{{tag}}", images.delete_tag),
    ("POST", f"{_IMAGE}/import", imports.import_image),
    ("GET", "/v2/info/import", imports.show_methods),
    ("GET", f"{_IMAGE}/members", members.list_members),
    ("POST", f"{_IMAGE}/members", members.create_member),
    ("GET", f"{_IMAGE}/members/{{member}}", members.show_member),
    ("PUT", f"{_IMAGE}/members/{{member}}", members.change_member),
    ("DELETE", f"{_IMAGE}/members/{{member}}", members.delete_member),
    ("GET", f"{_IMAGE}/locations", locations.list_locations),
    ("POST", f"{_IMAGE}/locations", locations.add_location),
    ("GET", f"{_IMAGE}/tasks", tasks.list_image_tasks),
    ("GET", "/v2/info/stores", stores.list_stores),
    ("GET", "/v2/info/stores/detail", stores.list_details),
    ("GET", "/v2/info/usage", stores.show_usage),
    ("DELETE", "/v2/stores/{store_id}/{image_id}", stores.delete_copy),
    ("GET", "/v2/tasks", tasks.list_tasks),
    ("POST", "/v2/tasks", tasks.create_task),
    ("GET", "/v2/tasks/{task_id}", tasks.show_task),
    ("DELETE", "/v2/tasks/{task_id}", tasks.delete_task),
    ("GET", "/v2/cache", cache.list_cached),
    ("DELETE", "/v2/cache", cache.clear),
    ("PUT", "/v2/cache/{image_id}", cache.enqueue),
    ("DELETE", "/v2/cache/{image_id}", cache.delete),
    ("GET", "/v2/schemas/{name}", schemas.show_schema),
    *METADEF_ROUTES,
    ("GET", "/v1/", v1_lists.list_images),
    ("GET", "/v1/images", v1_lists.list_images),
    ("GET", "/v1/images/detail", v1_lists.list_details),
    ("*", "/v1/images/detail", v1_lists.refuse_method),
    ("GET", f"{_IMAGE_V1}/members", v1_members.list_members),
    ("PUT", f"{_IMAGE_V1}/members", v1_members.put_members),
    ("PUT", f"{_IMAGE_V1}/members/{{member}}", v1_members.put_member),
    ("DELETE", f"{_IMAGE_V1}/members/{{member}}", v1_members.delete_member),
    ("GET", "/v1/shared-images/{member}", v1_members.list_shared),
    ("GET", _IMAGE_V1, v1.get_image),
    ("HEAD", _IMAGE_V1, v1.head_image),
    ("DELETE", _IMAGE_V1, v1.delete_image),
)

DATA_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("PUT", f"{_IMAGE}/file", data.put_file),
    ("PUT", f"{_IMAGE}/stage", imports.put_stage),
    ("POST", "/v1/images", v1.post_image),
    ("PUT", _IMAGE_V1, v1.put_image),
)
"""Routes that take image data: ``100 Continue`` is theirs to send."""


def add_routes(app: web.Application) -> None:
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    for method, path, handler in DATA_ROUTES:
        app.router.add_route(method, path, handler, expect_handler=continue_later)
