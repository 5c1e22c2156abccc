"""What a handler finds in the application and in a request, by typed keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tidegate.domain.policy import Caller
from tidegate.identity.base import Identity
from tidegate.services.activation import Activation
from tidegate.services.attempts import Attempts
from tidegate.services.cache import Cache
from tidegate.services.cloning import Cloning
from tidegate.services.downloads import Downloads
from tidegate.services.exporting import Exporting
from tidegate.services.images import Images
from tidegate.services.import_requests import ImportRequests
from tidegate.services.imports import Imports
from tidegate.services.locations import Locations
from tidegate.services.members import Members
from tidegate.services.metadefs import Metadefinitions
from tidegate.services.registering import Registering
from tidegate.services.staging import Staging
from tidegate.services.stores import Stores
from tidegate.services.tasks import Tasks
from tidegate.services.uploads import Uploads
from tidegate.services.usage import ProjectUsage
from tidegate.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
IDENTITY: web.AppKey[Identity] = web.AppKey("identity")
ACTIVATION = web.AppKey("activation", Activation)
IMAGES = web.AppKey("images", Images)
LOCATIONS = web.AppKey("locations", Locations)
REGISTERING = web.AppKey("registering", Registering)
STORES = web.AppKey("stores", Stores)
ATTEMPTS = web.AppKey("attempts", Attempts)
UPLOADS = web.AppKey("uploads", Uploads)
USAGE = web.AppKey("usage", ProjectUsage)
MEMBERS = web.AppKey("members", Members)
METADEFS = web.AppKey("metadefs", Metadefinitions)
TASKS = web.AppKey("tasks", Tasks)
CLONING = web.AppKey("cloning", Cloning)
EXPORTING = web.AppKey("exporting", Exporting)
IMPORTS = web.AppKey("imports", Imports)
IMPORT_REQUESTS = web.AppKey("import_requests", ImportRequests)
STAGING = web.AppKey("staging", Staging)
CACHE = web.AppKey("cache", Cache)
DOWNLOADS = web.AppKey("downloads", Downloads)

HOSTS: web.AppKey[frozenset[str] | None] = web.AppKey("hosts")
"""The names by which this server may be asked; None: any."""

RUNNING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("running")
"""The requests that are being answered."""

READY: web.AppKey[Callable[[], Awaitable[dict[str, str | None]]]] = web.AppKey("ready")
"""Asks each part that must answer; the reason of each that does not, else None."""

CALLER = web.RequestKey("caller", Caller)
"""Set by the middleware, on every path but the open ones."""

REQUEST_ID = web.RequestKey("request_id", str)
"""The request's id, ``req-…``."""

REFUSED = web.RequestKey("refused", tuple[int, str])
"""Status and message of a request that the server refused before it was routed."""

LAST = web.RequestKey("last", bool)
"""Set when the connection cannot carry another request after this one."""

PREPARED = web.RequestKey("prepared", web.StreamResponse)
"""The answer, once its head has left."""
