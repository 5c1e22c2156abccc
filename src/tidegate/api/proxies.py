"""Who sent a request: its peer, or whom a proxy names that is one of ``[server] proxies``."""

from ipaddress import ip_address

from aiohttp import web

from tidegate.api.keys import SETTINGS
from tidegate.settings import Server


def is_trusted(server: Server, address: str | None) -> bool:
    try:
        found = ip_address(address or "")
    except ValueError:
        return False
    return any(found in network for network in server.proxies)


def client_address(request: web.Request) -> str:
    """The last address on the way that is no proxy of ours: what stands before it in the headers,
    a client may have written. ``X-Forwarded-For`` counts where it is, since proxies that add to it
    often let ``Forwarded`` pass."""
    server, peer = request.app[SETTINGS].server, request.remote or ""
    if not is_trusted(server, peer):
        return peer
    for address in reversed(_way(request)):
        try:
            ip_address(address)
        except ValueError:
            break
        peer = address
        if not is_trusted(server, address):
            break
    return peer


def _way(request: web.Request) -> list[str]:
    """From the client on, as the headers have it."""
    told = request.headers.getall("X-Forwarded-For", [])
    if told:
        found = [address for line in told for address in line.split(",")]
    else:
        found = [element.get("for", "") for element in request.forwarded]
    return [_bare(address.strip()) for address in found]


def _bare(address: str) -> str:
    """Without brackets and port."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, _, port = address.partition(":")
    return host if ":" not in port else address
