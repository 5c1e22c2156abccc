"""A real Keystone on a free loopback port, as its own program: run by the Python that has it.

The folder ``OS_KEYSTONE_CONFIG_DIR`` has its configuration and keys; the port is printed when it
serves. A login with the header ``X-Test-Lifetime`` gets a token that lasts so many seconds.
"""

import io
import os
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

sys.argv = sys.argv[:1]  # which oslo.config would read
answer = os.dup(1)
os.dup2(2, 1)  # Keystone writes to both

from keystone.cmd import bootstrap  # noqa: E402
from keystone.common.sql import upgrades  # noqa: E402
from keystone.conf import CONF  # noqa: E402
from keystone.wsgi.api import application  # noqa: E402


class Handler(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


class Server(ThreadingMixIn, WSGIServer):
    """A client that is slow to send holds up no other."""

    daemon_threads = True


one_at_a_time = threading.Lock()


def serve(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    lasts = environ.get("HTTP_X_TEST_LIFETIME")
    with one_at_a_time:
        if lasts:
            CONF.set_override("expiration", int(lasts), "token")
        try:
            return application(environ, start_response)
        finally:
            CONF.clear_override("expiration", "token")


server = make_server("127.0.0.1", 0, serve, server_class=Server, handler_class=Handler)
url = f"http://127.0.0.1:{server.server_port}/v3"
upgrades.offline_sync_database_to_version()
bootstrap.backends.load_backends = lambda: None  # which the application has done
bootstrapper = bootstrap.Bootstrapper()
bootstrapper.admin_username = bootstrapper.project_name = bootstrapper.admin_role_name = "admin"
bootstrapper.admin_password = os.environ["ADMIN_PASSWORD"]
bootstrapper.service_name = "keystone"
bootstrapper.region_id = "RegionOne"
bootstrapper.public_url = bootstrapper.internal_url = bootstrapper.admin_url = url
bootstrapper.bootstrap()
os.write(answer, b"%d\n" % server.server_port)
server.serve_forever()
