"""What cannot be served is said at the start in one line; what fails later is said by /readyz."""

import gc
import json
import resource
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from tests.kit.command import COMMAND, Serving, environment, run, serving, wait_for

from tidegate.api.keys import READY
from tidegate.app import gateway
from tidegate.cli import main
from tidegate.domain.errors import TidegateError
from tidegate.seaweedfs import SeaweedFS, free_ports
from tidegate.settings import Settings, load

CONFIG = Path(__file__).parent.parent.parent / "config"
DATA = "application/octet-stream"


def refused(folder: Path, *arguments: str, modes_count: bool = False, **environ: str) -> str:
    """A ``serve`` that must not start: exit code 1 and the one line, whatever the reason."""
    given = ("serve", "--port", "0", *arguments)
    found = run(*given, folder=folder, environ=environ, modes_count=modes_count)
    assert found.code == 1, found.err
    assert found.line.startswith("tidegate: ")
    assert found.out == b""
    return found.line


@pytest.fixture
def at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """As ``refused``, in this process: for what is seen before any worker is started."""

    def serve(*arguments: str, **environ: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["tidegate", "serve", *arguments])
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("tidegate: ")
        del ended
        gc.collect()  # what was left open is an error here and not in some later test
        return line

    return serve


def config(folder: Path, text: str) -> str:
    path = folder / "tidegate.toml"
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
    return str(path)


def s3(endpoint: str, access: str = "key", secret: str = "s3cr3t-value", **more: str) -> str:
    given = {"endpoint": endpoint, "bucket": f"b-{uuid4().hex}", "access_key": access,
             "secret_key": secret, "connect_timeout": "1s", "attempts": "2", **more}  # fmt: skip
    lines = [f'{name} = "{value}"' if name != "attempts" else f"{name} = {value}"
             for name, value in given.items()]  # fmt: skip
    return "\n".join(['[[stores]]\ntype = "s3"\nid = "main"', *lines])


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that is ours and refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


# the configuration


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    found = refused(tmp_path, "--config", config(tmp_path, "[server]\nprot = 9292\n"))
    assert "server.prot" in found
    assert "'port'" in found


def test_an_unknown_variable_is_named(at_once: Callable[..., str]) -> None:
    assert "uploads.leese" in at_once(TIDEGATE_UPLOADS__LEESE="1s")


def test_a_configuration_that_is_no_toml(tmp_path: Path, at_once: Callable[..., str]) -> None:
    found = at_once("--config", config(tmp_path, "[server\n"))
    assert "tidegate.toml" in found


def test_a_section_that_is_no_table(tmp_path: Path, at_once: Callable[..., str]) -> None:
    found = at_once("--config", config(tmp_path, "server = 3\n"), "--workers", "1")
    assert "server" in found


def test_a_configuration_that_is_not_there(tmp_path: Path, at_once: Callable[..., str]) -> None:
    found = at_once("--config", str(tmp_path / "nowhere.toml"))
    assert "nowhere.toml" in found


def test_a_configuration_that_may_not_be_read(tmp_path: Path) -> None:
    path = Path(config(tmp_path, ""))
    path.chmod(0)
    found = refused(tmp_path, "--config", str(path), modes_count=True)
    assert "tidegate.toml" in found
    assert "ermission" in found


def test_a_store_of_an_unknown_type(tmp_path: Path, at_once: Callable[..., str]) -> None:
    found = at_once("--config", config(tmp_path, '[[stores]]\ntype = "tape"\n'))
    assert "tape" in found
    assert "filesystem" in found


def test_a_value_that_cannot_be_names_its_key(tmp_path: Path, at_once: Callable[..., str]) -> None:
    found = at_once("--config", config(tmp_path, '[uploads]\nlease = "soon"\n'))
    assert "uploads.lease" in found


S3_OF_A_FILE = """
[[stores]]
type = "s3"
id = "main"
endpoint = "http://127.0.0.1:1"
bucket = "images"
access_key = "a"
secret_key_file = "secret"
"""
KEYSTONE_OF_A_FILE = """
[auth]
mode = "keystone"
[auth.keystone]
username = "tidegate"
password_file = "secret"
"""


@pytest.mark.parametrize("text", [S3_OF_A_FILE, KEYSTONE_OF_A_FILE], ids=["s3", "keystone"])
def test_sec_64_a_secrets_file_that_is_open_to_others_stops_the_start(
    tmp_path: Path, text: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t-value", encoding="utf-8")
    secret.chmod(0o640)
    found = refused(tmp_path, "--config", config(tmp_path, text))
    assert "secret_key_file" in found or "password_file" in found
    assert "chmod 600 secret" in found
    assert "s3cr3t-value" not in found


def test_sec_64_a_configuration_that_is_open_to_others_and_holds_a_secret_is_told(
    tmp_path: Path,
) -> None:
    with closed_port() as port:
        path = Path(config(tmp_path, s3(f"http://127.0.0.1:{port}")))
        path.chmod(0o644)
        found = run("serve", "--port", "0", "--config", str(path), folder=tmp_path)
    assert found.code == 1
    warned, refusal = found.err.splitlines()
    assert warned.startswith("tidegate: warning: ")
    assert f"stores.secret_key; run: chmod 600 {path}" in warned
    assert "s3cr3t-value" not in warned + refusal


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_everybody_is_no_administrator_unless_that_is_meant(
    at_once: Callable[..., str], host: str
) -> None:
    found = at_once("--host", host, "--port", "0")
    assert "--insecure" in found


def test_with_insecure_another_address_is_served_until_told_to_stop(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", "--insecure") as found:
        assert found.ask("/healthz")[0] == 200
        assert found.stop() == 0


def test_dev_heeds_the_environment_and_is_never_open_to_others(tmp_path: Path) -> None:
    found = run("dev", folder=tmp_path, environ={"TIDEGATE_SERVER__HOST": "0.0.0.0"})
    assert found.code == 1
    assert found.line.startswith("tidegate: server.host is 0.0.0.0 and auth.mode is none")


# the place to listen


def test_a_port_in_use(at_once: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = at_once("--port", str(port))
    assert f"127.0.0.1:{port}" in found
    assert "in use" in found


def test_an_address_that_is_not_ours(at_once: Callable[..., str]) -> None:
    found = at_once("--host", "192.0.2.1", "--port", "0", "--insecure")
    assert "cannot listen on 192.0.2.1:0" in found


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_is_none(at_once: Callable[..., str], port: str) -> None:
    assert "server.port" in at_once(f"--port={port}")


# the store


def test_an_s3_that_does_not_answer(tmp_path: Path) -> None:
    with closed_port() as port:
        found = refused(tmp_path, "--config", config(tmp_path, s3(f"http://127.0.0.1:{port}")))
    assert "'main'" in found
    assert "no answer" in found
    assert "s3cr3t-value" not in found


def test_a_bucket_that_is_not_there(tmp_path: Path, seaweedfs: SeaweedFS) -> None:
    text = s3(seaweedfs.endpoint, seaweedfs.access_key, seaweedfs.secret_key, bucket="none-such")
    found = refused(tmp_path, "--config", config(tmp_path, text))
    assert "'none-such' does not exist" in found
    assert "create_bucket" in found


def test_credentials_that_are_wrong(tmp_path: Path, seaweedfs: SeaweedFS) -> None:
    access = seaweedfs.access_key
    found = refused(
        tmp_path, "--config", config(tmp_path, s3(seaweedfs.endpoint, access, "s3cr3t-value"))
    )
    assert "credentials" in found
    assert "s3cr3t-value" not in found


def test_a_folder_for_the_images_that_is_read_only(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir(0o555)
    found = refused(tmp_path, modes_count=True)
    assert "images cannot be used" in found
    assert "ermission" in found


# what imports are converted by


@pytest.mark.parametrize("command", ["serve", "check"])
def test_converting_without_qemu_img(tmp_path: Path, command: str) -> None:
    (port,) = free_ports(1)
    environ = {"TIDEGATE_IMPORT__CONVERT_TO": "raw", "PATH": str(tmp_path),
               "TIDEGATE_SERVER__PORT": str(port)}  # fmt: skip
    found = run(command, folder=tmp_path, environ=environ)
    assert (found.code, found.out) == (1, b"")
    assert found.line == "tidegate: import.convert_to needs qemu-img, which is not in PATH"


# the catalog


def test_a_catalog_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "tidegate.db").write_bytes(b"this is not a database at all, by any means" * 100)
    found = refused(tmp_path)
    assert "catalog" in found.lower()


# the same, without the cost of processes: what is raised here is a worker's one line


async def raised(folder: Path, **sections: Any) -> str:
    settings = Settings.model_validate(
        {"catalog": {"url": f"sqlite:///{folder}/tidegate.db"}, **sections}
    )
    with pytest.raises(TidegateError) as found:
        async with gateway(settings):
            pass
    assert "\n" not in found.value.message
    return found.value.message


async def test_an_endpoint_that_is_no_url(tmp_path: Path) -> None:
    stores = [{"type": "s3", "id": "main", "endpoint": "not a url", "bucket": "images",
               "access_key": "key", "secret_key": "s3cr3t-value"}]  # fmt: skip
    said = await raised(tmp_path, stores=stores)
    assert "'main'" in said
    assert "endpoint" in said


async def test_a_folder_for_the_images_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = f"{tmp_path}/file/images"
    assert path in await raised(tmp_path, stores=[{"type": "filesystem", "path": path}])


async def test_a_folder_for_the_images_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "elsewhere")
    path = f"{tmp_path}/images"
    assert path in await raised(tmp_path, stores=[{"type": "filesystem", "path": path}])


async def test_a_catalog_that_is_another_programs_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "tidegate.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('another')")
        connection.commit()
    assert "catalog" in (await raised(tmp_path)).lower()


async def test_a_catalog_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/tidegate.db"
    assert "catalog" in (await raised(tmp_path, catalog={"url": url})).lower()


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://user:s3cr3t-value@host/db"])
async def test_a_catalog_of_an_unknown_kind(tmp_path: Path, url: str) -> None:
    said = await raised(tmp_path, catalog={"url": url})
    assert "catalog.url" in said
    assert "s3cr3t-value" not in said


# the samples


@pytest.mark.parametrize("sample", ["s3.toml", "cluster.toml"])
async def test_the_samples_start(tmp_path: Path, seaweedfs: SeaweedFS, sample: str) -> None:
    settings = load(CONFIG / sample, {})
    here: dict[str, dict[str, Any]] = {
        "s3": {"endpoint": seaweedfs.endpoint, "access_key": seaweedfs.access_key,
               "secret_key": SecretStr(seaweedfs.secret_key), "secret_key_file": None,
               "bucket": f"b-{uuid4().hex}", "create_bucket": True},
        "filesystem": {"path": tmp_path / "images"},
        "http": {},
    }  # fmt: skip
    stores = tuple(store.model_copy(update=here[store.type]) for store in settings.stores)
    catalog = settings.catalog.model_copy(update={"url": f"sqlite:///{tmp_path}/tidegate.db"})
    settings = settings.model_copy(update={"stores": stores, "catalog": catalog})
    async with gateway(settings) as app:
        assert set((await app[READY]()).values()) == {None}


# whatever the reason


@pytest.mark.parametrize(
    "arguments",
    [["--port", "many"], ["--nonsense"], ["--workers"], ["surplus"], ["--config", "/"]],
)
def test_a_command_line_that_cannot_be_is_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tidegate", "serve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Error" in capfd.readouterr().err


# later


def ready(serve: Serving) -> dict[str, str]:
    """What /readyz says has failed."""
    status, body = serve.ask("/readyz")
    found = json.loads(body)
    assert status == (503 if found["failed"] else 200)
    assert found["ready"] is not bool(found["failed"])
    failed: dict[str, str] = found["failed"]
    return failed


def test_readyz_says_that_s3_went_away_and_came_back(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path / "s3") as storage:
        text = s3(storage.endpoint, storage.access_key, storage.secret_key)
        path = config(tmp_path, f"{text}\ncreate_bucket = true\n")
        with serving(tmp_path, "--config", path) as serve:
            assert ready(serve) == {}
            storage.kill()
            failed = wait_for(lambda: ready(serve), "the loss to be noticed")
            assert set(failed) == {"store main"}
            assert "no answer" in failed["store main"]
            assert serve.ask("/healthz")[0] == 200
            storage.start()
            wait_for(lambda: not ready(serve), "S3 to be noticed again")


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A gateway for tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("serve")) as found:
        assert ready(found) == {}
        yield found


@contextmanager
def full_disk(serve: Serving) -> Iterator[None]:
    """The running processes cannot make any file longer, as on a full disk: each write fails
    with EFBIG (RLIMIT_FSIZE of 0, put on them from outside)."""
    _limit(serve, 0)
    try:
        yield
    finally:
        _limit(serve, None)


def _limit(serve: Serving, size: int | None) -> None:
    for worker in serve.workers:
        _, most = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))


IMAGE = b'{"name": "x", "disk_format": "raw", "container_format": "bare"}'


def create(serve: Serving) -> tuple[int, bytes]:
    return serve.ask("/v2/images", IMAGE, kind="application/json")


def test_a_full_disk_refuses_until_there_is_room(serve: Serving) -> None:
    _, body = create(serve)
    path = f"/v2/images/{json.loads(body)['id']}/file"
    with full_disk(serve):
        status, body = create(serve)
        assert status == 503
        assert json.loads(body)["error"]["message"]
        # a request that carries data is never answered 503
        assert serve.ask(path, b"bytes", method="PUT", kind=DATA)[0] in (413, 502)
        assert serve.ask("/v2/images")[0] == 200
        assert serve.ask("/healthz")[0] == 200
    _, body = create(serve)
    path = f"/v2/images/{json.loads(body)['id']}/file"
    assert serve.ask(path, b"bytes", method="PUT", kind=DATA)[0] == 204
    assert serve.ask(path) == (200, b"bytes")


def test_readyz_says_that_the_disk_is_full(serve: Serving) -> None:
    with full_disk(serve):
        failed = wait_for(lambda: ready(serve), "the full disk to be noticed", within=5)
        assert set(failed) & {"catalog", "store local"}
    wait_for(lambda: not ready(serve), "the room to be noticed")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", str(port)], cwd=tmp_path, env=environment(), stderr=full
        )
    serve = Serving(f"http://127.0.0.1:{port}", process, [])

    def answers() -> bool:
        with suppress(OSError):
            return serve.ask("/v2/images")[0] == 200
        assert process.poll() is None, "it gave up"
        return False

    try:
        wait_for(answers, "an answer")
        assert create(serve)[0] == 201
    finally:
        process.terminate()
        process.wait(20)


def test_a_worker_that_dies_is_replaced_and_the_port_stays(serve: Serving) -> None:
    (worker,) = serve.workers
    worker.kill()
    assert serve.ask("/healthz")[0] == 200
    (other,) = serve.workers
    assert other.pid != worker.pid
