"""A real identity service, with users in two projects, and its own clients.

It lives in ``.venv-keystone``, which is made where it is missing (``tests/kit/keystone.txt``).
"""

import base64
import fcntl
import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import Request, urlopen

from tests.kit.command import Outcome, environment

from tidegate.children import die_with_parent

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venv-keystone"
ADMIN_PASSWORD = "adm1n-pw"
SERVICE_PASSWORD = "serv1ce-pw"

USERS = {
    # name: project and role
    "adm1": ("p1", "admin"),
    "mem1": ("p1", "member"),
    "rea1": ("p1", "reader"),
    "mem2": ("p2", "member"),
    "tidegate": ("service", "service"),
    "nova": ("service", "service"),
}


def install() -> None:
    """Have the environment; one process makes it, the others wait."""
    folder = os.open(ROOT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        subprocess.run(
            ["make", "--silent", "--old-file", ".venv/installed", ".venv-keystone/installed"],
            cwd=ROOT, check=True, env={**os.environ, "MAKEFLAGS": ""},
        )  # fmt: skip
    finally:
        os.close(folder)


class Keystone:
    """Serves while the context is entered. Passwords of users are their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._admin = ""
        self.url = ""
        self.ids: dict[str, str] = {}
        """Of users, projects and the image service, by name."""

    def __enter__(self) -> Self:
        install()
        self._write_configuration()
        with (self._folder / "keystone.log").open("wb") as log:
            self._process = subprocess.Popen(
                [VENV / "bin" / "python", "-P", Path(__file__).with_name("keystone_server.py")],
                env=environment(
                    OS_KEYSTONE_CONFIG_DIR=str(self._folder), ADMIN_PASSWORD=ADMIN_PASSWORD
                ),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=die_with_parent,
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, (self._folder / "keystone.log").read_text(encoding="utf-8")[-4000:]
        self.url = f"http://127.0.0.1:{port}/v3"
        self._populate()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def token(
        self, user: str, project: str | None = None, *, lasts: int | None = None,
        scope: object = None,
    ) -> str:  # fmt: skip
        """A new token, for the user's project unless something else is said."""
        if scope is None:
            scope = {"project": {"id": self.ids[project or USERS[user][0]]}}
        named = {"name": user, "domain": {"id": "default"}, "password": _password_of(user)}
        return self._log_in(
            {"methods": ["password"], "password": {"user": named}}, scope=scope, lasts=lasts
        )

    def token_of_credential(self, credential: Mapping[str, str]) -> str:
        given = {"id": credential["id"], "secret": credential["secret"]}
        return self._log_in(
            {"methods": ["application_credential"], "application_credential": given}
        )

    def credential(self, user: str, *rules: tuple[str, str]) -> dict[str, str]:
        """An application credential of a user; with ``rules`` good for these methods and paths of
        the image service alone."""
        body: dict[str, Any] = {"name": secrets.token_hex(4)}
        if rules:
            body["access_rules"] = [
                {"service": "image", "method": method, "path": path} for method, path in rules
            ]
        made: dict[str, str] = self._ask(
            "POST",
            f"/users/{self.ids[user]}/application_credentials",
            {"application_credential": body},
            token=self.token(user),
        )["application_credential"]
        return made

    def revoke(self, token: str) -> None:
        self._ask("DELETE", "/auth/tokens", token=token, headers={"X-Subject-Token": token})

    def set_enabled(self, user: str, enabled: bool) -> None:
        self._ask("PATCH", f"/users/{self.ids[user]}", {"user": {"enabled": enabled}})

    def limit(self, name: str, most: int, project: str | None = None) -> None:
        """What a project (None: each that has no other) may have of a resource of the image
        service, from now on."""
        given: dict[str, Any] = {"resource_name": name, "service_id": self.ids["image"]}
        if project is None:
            body = {"registered_limits": [{**given, "default_limit": most}]}
            self._ask("POST", "/registered_limits", body)
        else:
            own = {**given, "project_id": self.ids[project], "resource_limit": most}
            self._ask("POST", "/limits", {"limits": [own]})

    def set_image_endpoint(self, url: str) -> None:
        """What the catalog says of the image service, from now on."""
        for endpoint in self._ask("GET", "/endpoints?region_id=RegionOne")["endpoints"]:
            if endpoint["service_id"] == self.ids["image"]:
                self._ask("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"url": url}})

    def settings(self, **more: Any) -> dict[str, Any]:
        """A section ``auth`` for a gateway."""
        account = {"url": self.url, "username": "tidegate", "password": SERVICE_PASSWORD}
        return {"mode": "keystone", "keystone": {**account, **more}}

    def account(self, user: str) -> dict[str, str]:
        """The environment by which clients log in as this user."""
        return {
            "OS_AUTH_URL": self.url, "OS_IDENTITY_API_VERSION": "3", "OS_USERNAME": user,
            "OS_PASSWORD": _password_of(user), "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_NAME": USERS[user][0], "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": "RegionOne",
        }  # fmt: skip

    def client(self, user: str, *command: str, within: float = 60, **environ: str) -> Outcome:
        """One of the clients in the environment, as this user: ``openstack`` or ``python``."""
        done = subprocess.run(
            [VENV / "bin" / command[0], *command[1:]],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(**self.account(user), **environ),
            timeout=within,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr.decode())

    def _write_configuration(self) -> None:
        keys = self._folder / "keys"
        keys.mkdir(mode=0o700)
        for number in "01":
            (keys / number).write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
        sections = {
            "database": {"connection": f"sqlite:///{self._folder / 'keystone.db'}"},
            "fernet_tokens": {"key_repository": keys},
            "fernet_receipts": {"key_repository": keys},
            "credential": {"key_repository": keys},
            "identity": {"password_hash_rounds": 4},
        }
        text = "".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
            for section, values in sections.items()
        )
        (self._folder / "keystone.conf").write_text(text, encoding="utf-8")

    def _populate(self) -> None:
        roles = {role["name"]: role["id"] for role in self._ask("GET", "/roles")["roles"]}
        for project in ("p1", "p2", "service"):
            self.ids[project] = self._make("project", name=project, domain_id="default")
        for user, (project, role) in USERS.items():
            password = _password_of(user)
            self.ids[user] = self._make("user", name=user, password=password, domain_id="default")
            self._ask(
                "PUT",
                f"/projects/{self.ids[project]}/users/{self.ids[user]}/roles/{roles[role]}",
            )
        self._ask("PUT", f"/system/users/{self.ids['adm1']}/roles/{roles['admin']}")
        self._ask("PUT", f"/system/users/{self.ids['tidegate']}/roles/{roles['reader']}")
        self.ids["image"] = self._make("service", type="image", name="glance")
        for interface in ("public", "internal"):
            self._make("endpoint", service_id=self.ids["image"], interface=interface,
                       region_id="RegionOne", url="http://127.0.0.1:9/")  # fmt: skip

    def _make(self, kind: str, **fields: str) -> str:
        made_id: str = self._ask("POST", f"/{kind}s", {kind: fields})[kind]["id"]
        return made_id

    def _log_in(
        self, identity: dict[str, Any], *, scope: object = None, lasts: int | None = None
    ) -> str:
        auth: dict[str, Any] = {"identity": identity}
        if scope is not None:
            auth["scope"] = scope
        headers = {} if lasts is None else {"X-Test-Lifetime": str(lasts)}
        request = Request(
            f"{self.url}/auth/tokens",
            data=json.dumps({"auth": auth}).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        with urlopen(request, timeout=30) as answer:
            return str(answer.headers["X-Subject-Token"])

    def _ask(
        self, method: str, path: str, body: object = None, *, token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """As the administrator, unless there is a token."""
        request = Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Content-Type": "application/json",
                "X-Auth-Token": token or self._admin_token(),
                **(headers or {}),
            },
        )
        with urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def _admin_token(self) -> str:
        if not self._admin:
            scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
            self._admin = self.token("admin", scope=scope)
        return self._admin


def _password_of(user: str) -> str:
    return {"admin": ADMIN_PASSWORD, "tidegate": SERVICE_PASSWORD}.get(user, user)
