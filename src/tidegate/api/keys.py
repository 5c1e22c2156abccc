"""What a handler finds in the application and in a request, by typed keys."""

from aiohttp import web

from tidegate.services.downloads import Downloads
from tidegate.services.uploads import Uploads
from tidegate.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
UPLOADS = web.AppKey("uploads", Uploads)
DOWNLOADS = web.AppKey("downloads", Downloads)

CALLER = "caller"
"""Request key: ``domain.policy.Caller``, set by the middleware."""

REQUEST_ID = "request_id"
"""Request key: the request's id, ``req-…``."""
