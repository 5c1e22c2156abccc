"""Where a setting comes from, what it may be, and that the samples are right."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.kit.gateway import running
from tests.kit.stores import FaultyStore

from tidegate.domain.export import parse_url
from tidegate.server import dump
from tidegate.settings import (
    FilesystemStore,
    HttpStore,
    S3Store,
    Settings,
    SettingsError,
    load,
    parse_duration,
    parse_size,
    secrets_of,
)
from tidegate.stores.memory import MemoryStore

CONFIG = Path(__file__).parent.parent / "config"
MIB = 2**20
SECRET = "s3cr3t-never-shown"


def of(text: str, tmp_path: Path, **environ: str) -> Settings:
    """The settings of a file with this text, and of this environment."""
    path = tmp_path / "tidegate.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ)


def why(text: str, tmp_path: Path, **environ: str) -> str:
    """What is said of a file that cannot be used."""
    with pytest.raises(SettingsError) as refused:
        of(text, tmp_path, **environ)
    said = str(refused.value)
    assert "\n" not in said
    return said


# the samples


def test_the_example_is_equal_to_the_defaults() -> None:
    assert load(CONFIG / "tidegate.toml", {}) == Settings()


def keys_of(model: BaseModel, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field, info in type(model).model_fields.items():
        name, value = info.alias or field, getattr(model, field)
        if isinstance(value, BaseModel):
            yield from keys_of(value, (*at, name))
        elif name != "stores" and value is not None:
            yield (*at, name)


def named_in(tree: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from named_in(value, (*at, name))
        elif name != "stores":
            yield (*at, name)


def test_the_example_names_every_key() -> None:
    tree = tomllib.loads((CONFIG / "tidegate.toml").read_text(encoding="utf-8"))
    assert set(named_in(tree)) == set(keys_of(Settings()))
    assert set(tree["stores"][0]) == set(FilesystemStore.model_fields)


def test_the_s3_sample_loads_and_names_every_key() -> None:
    (store,) = load(CONFIG / "s3.toml", {}).stores
    assert isinstance(store, S3Store)
    assert store.default
    text = (CONFIG / "s3.toml").read_text(encoding="utf-8")
    assert [name for name in S3Store.model_fields if f"{name} = " not in text] == []


def test_the_s3_sample_says_the_defaults_where_there_are_any() -> None:
    tree = tomllib.loads((CONFIG / "s3.toml").read_text(encoding="utf-8"))["stores"][0]
    own = {"type", "id", "default", "endpoint", "bucket", "access_key", "secret_key"}
    least = {name: tree[name] for name in own}
    assert S3Store.model_validate(tree) == S3Store.model_validate(least)


def test_the_cluster_sample_loads() -> None:
    settings = load(CONFIG / "cluster.toml", {})
    assert [store.type for store in settings.stores] == ["s3", "filesystem", "http"]
    assert settings.default_store == "main"


# where a setting comes from


def test_without_anything_the_defaults_count() -> None:
    assert load(None, {}) == Settings()


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_text('[server]\nport = 1\nhost = "::1"\nworkers = 7\n', encoding="utf-8")
    environ = {"TIDEGATE_SERVER__PORT": "2", "TIDEGATE_SERVER__HOST": "localhost"}
    server = load(path, environ, {"server": {"port": 3}}).server
    assert (server.port, server.host, server.workers) == (3, "localhost", 7)


def test_defaults_of_a_program_give_way_to_the_environment_and_stay_as_they_are() -> None:
    defaults = {"server": {"port": 1, "workers": 2}}
    settings = load(None, {"TIDEGATE_SERVER__PORT": "3"}, defaults=defaults)
    assert (settings.server.port, settings.server.workers) == (3, 2)
    assert defaults == {"server": {"port": 1, "workers": 2}}


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    settings = load(None, {"TIDEGATE_UPLOADS__LEASE": "2m", "TIDEGATE_DOWNLOADS__VERIFY": "false"})
    assert settings.uploads.lease == 120
    assert settings.downloads.verify is False


def test_a_list_in_the_environment_is_joined_by_commas() -> None:
    settings = load(None, {"TIDEGATE_FETCH__ALLOW": "mirror.example,10.0.0.0/8"})
    assert settings.fetch.allow == ("mirror.example", "10.0.0.0/8")


def test_or_written_as_json() -> None:
    settings = load(None, {"TIDEGATE_FETCH__ALLOW": ' ["mirror.example", "10.0.0.0/8"]'})
    assert settings.fetch.allow == ("mirror.example", "10.0.0.0/8")


@pytest.mark.parametrize("text", ["[", '["a"', "[a]", "[1]", '["a"]\nlocations = 1'])
def test_what_begins_as_a_list_and_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match=r"TIDEGATE_FETCH__ALLOW|fetch.allow"):
        load(None, {"TIDEGATE_FETCH__ALLOW": text})


def test_blanks_around_the_commas_mean_nothing() -> None:
    settings = load(None, {"TIDEGATE_UPLOADS__DIGESTS": "md5, sha256"})
    assert settings.uploads.digests == ("md5", "sha256")


def test_an_empty_list_in_the_environment_is_an_empty_list() -> None:
    assert load(None, {"TIDEGATE_FETCH__ALLOW": ""}).fetch.allow == ()


@pytest.mark.parametrize(
    "name", ["TIDEGATE_URL", "TIDEGATE_TOKEN", "TIDEGATE_KILL", "TIDEGATE_SERVER_PORT", "SERVER__X"]
)
def test_other_variables_are_no_settings(name: str) -> None:
    assert load(None, {name: "x"}) == Settings()


def test_a_store_in_the_environment_is_refused_by_its_name(tmp_path: Path) -> None:
    text = '[[stores]]\ntype = "filesystem"\n'
    assert "TIDEGATE_STORES__PATH" in why(text, tmp_path, TIDEGATE_STORES__PATH="/x")


# keys that are not known


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("[server]\nprot = 1", "server.prot", "port"),
        ("[uploadz]\nlease = 1", "uploadz", "uploads"),
        ('[uploads]\nmemory_bugdet = "1GiB"', "uploads.memory_bugdet", "memory_budget"),
        ('[[stores]]\ntype = "s3"\nid = "a"\nbukket = "b"', "bukket", "bucket"),
        ('[[stores]]\ntype = "filesystem"\npaht = "b"', "paht", "path"),
        ('[locations]\nshow_direct = true', "locations.show_direct", "show_direct_url"),
    ],
)  # fmt: skip
def test_an_unknown_key_stops_the_start_and_names_the_nearest(
    text: str, unknown: str, nearest: str, tmp_path: Path
) -> None:
    said = why(text, tmp_path)
    assert unknown in said
    assert f"did you mean {nearest!r}" in said


def test_an_unknown_variable_names_the_nearest_key(tmp_path: Path) -> None:
    said = why("", tmp_path, TIDEGATE_SERVER__WORKER="2")
    assert "server.worker" in said
    assert "'workers'" in said


def test_a_section_within_another_is_like_any_other(tmp_path: Path) -> None:
    environ = {
        "TIDEGATE_AUTH__MODE": "keystone",
        "TIDEGATE_AUTH__KEYSTONE__USERNAME": "tidegate",
        "TIDEGATE_AUTH__KEYSTONE__PASSWORD": SECRET,
        "TIDEGATE_AUTH__KEYSTONE__SERVICE_ROLES": "service, nova",
        "TIDEGATE_AUTH__KEYSTONE__CACHE": "5m",
    }
    keystone = of('[auth.keystone]\nusername = "other"', tmp_path, **environ).auth.keystone
    assert (keystone.username, keystone.cache) == ("tidegate", 300)
    assert keystone.service_roles == ("service", "nova")
    assert keystone.password.get_secret_value() == SECRET
    assert "'username'" in why("[auth.keystone]\nusrname = 'x'", tmp_path)
    assert "auth.keystone.cach" in why("", tmp_path, TIDEGATE_AUTH__KEYSTONE__CACH="5m")
    assert "'auth.keystone.cache'" in why("[auth]\ncache = '5m'", tmp_path)
    said = why("[auth]\nmode = 'none'", tmp_path, TIDEGATE_AUTH__MODE__X="1")
    assert "mode must be a table" in said


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "username or application_credential_id is needed"),
        ('username = "a"\napplication_credential_id = "b"', "choose one"),
        ('username = "a"\npassword = "b"\npassword_file = "c"', "choose one"),
        ('username = "a"\nurl = "keystone:5000"', "auth.keystone.url: must be http://"),
        ('username = "a"\nurl = "http://user:pw@keystone/"', "auth.keystone.url: must be http://"),
        ('username = "a"\npublic_url = "https://x\\r\\ny"', "auth.keystone.public_url: must be"),
        ('username = "a"\ntimeout = "0s"', "auth.keystone.timeout"),
    ],
)
def test_what_keystone_needs(tmp_path: Path, text: str, word: str) -> None:
    assert word in why(f'[auth]\nmode = "keystone"\n[auth.keystone]\n{text}', tmp_path)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://k:5000/v3/", "http://k:5000/v3"),
        ("https://k/identity", "https://k/identity"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_keystones_address(given: str, kept: str) -> None:
    assert Settings.model_validate({"auth": {"keystone": {"url": given}}}).auth.keystone.url == kept


def test_a_key_like_no_other_is_named_without_a_guess(tmp_path: Path) -> None:
    said = why("[server]\nzzzzzzzz = 1", tmp_path)
    assert "server.zzzzzzzz" in said
    assert "did you mean" not in said


def test_a_key_in_another_section_than_its_own_is_told_where_it_belongs(tmp_path: Path) -> None:
    assert "uploads" in why('[server]\nlease = "5s"', tmp_path)


# values


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("7", 7), ("7B", 7), ("16MiB", 16 * MIB), ("16 mb", 16 * MIB),
     ("1.5GiB", 1536 * MIB), ("1TiB", 2**40), ("2PiB", 2**51), (" 3 KiB ", 3072)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "rate"), [("", 0), ("0", 0), ("50MiB", 50 * 2**20)])
def test_a_rate_is_a_size_and_an_empty_one_is_none(text: str, rate: int) -> None:
    assert load(environ={"TIDEGATE_SCRUB__RATE": text}).scrub.rate == rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("7", 7), ("250ms", 0.25), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("7d", 604800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "MiB", "1XiB", "1e6", "16MiB 3", "١٦"])
def test_what_is_no_size(text: str, tmp_path: Path) -> None:
    said = why(f'[uploads]\npart_size = "{text}"', tmp_path)
    assert said.startswith("uploads.part_size: ")
    assert "16MiB" in said


@pytest.mark.parametrize("text", ["", "-1s", "s", "1week", "1h30m"])
def test_what_is_no_duration(text: str, tmp_path: Path) -> None:
    said = why(f'[uploads]\nlease = "{text}"', tmp_path)
    assert said.startswith("uploads.lease: ")
    assert "30s" in said


@pytest.mark.parametrize("value", ["inf", "nan", "-1"])
def test_a_duration_is_a_number_that_a_clock_can_reach(value: str, tmp_path: Path) -> None:
    assert "server.drain_timeout" in why(f"[server]\ndrain_timeout = {value}", tmp_path)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[server]\nport = 65536", "server.port"),
        ("[server]\nport = -1", "server.port"),
        ('[server]\nport = "http"', "server.port"),
        ("[server]\nworkers = -1", "server.workers"),
        ('[auth]\nmode = "maybe"', "auth.mode"),
        ('[uploads]\non_broken = "active"', "uploads.on_broken"),
        ("[uploads]\npart_concurrency = 0", "uploads.part_concurrency"),
        ('[uploads]\nmemory_budget = "1MiB"', "memory_budget"),
        ('[uploads]\nlease = "10ms"', "lease"),
        ('[uploads]\ndigests = ["md5", "sha9000"]', "sha9000"),
        ('[uploads]\ndigests = ["shake_128"]', "shake_128"),
        ("[downloads]\nverify = 7", "downloads.verify"),
        ('[[stores]]\ntype = "tape"', "tape"),
        ('[[stores]]\nid = "a"', "type"),
        ('[[stores]]\ntype = "s3"\nid = "a"', "bucket"),
        ('[[stores]]\ntype = "s3"\nid = "a"\nbucket = "ab"', "bucket"),
        ('[[stores]]\ntype = "s3"\nid = "a/b"\nbucket = "abc"', "id"),
        ('[[stores]]\ntype = "s3"\nid = "a"\nbucket = "abc"\nattempts = 0', "attempts"),
        ("stores = []", "stores"),
        ("server = 3", "server"),
    ],
)
def test_a_value_that_cannot_be_is_refused_under_its_key(
    text: str, key: str, tmp_path: Path
) -> None:
    assert key in why(text, tmp_path)


def test_a_section_that_is_no_table_is_refused_also_beside_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_text("server = 3", encoding="utf-8")
    with pytest.raises(SettingsError, match="server"):
        load(path, {}, {"server": {"port": 1}})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1


# stores


def store(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


S3 = {"id": "main", "bucket": "images"}


@pytest.mark.parametrize(
    ("stores", "word"),
    [
        ([store("filesystem", default=True), store("s3", **S3, default=True)], "default"),
        ([store("filesystem", id="main"), store("s3", **S3)], "'main'|main is used twice"),
        ([store("http")], "takes data"),
        ([store("http", default=True), store("filesystem")], "default"),
        # the store of registered URLs, which is always there, has this name
        ([store("filesystem", id="http")], "http"),
    ],
)
def test_stores_that_do_not_go_together(stores: list[dict[str, Any]], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Settings.model_validate({"stores": stores})


def test_the_first_store_that_takes_data_is_the_default() -> None:
    stores = [store("http"), store("s3", **S3), store("filesystem")]
    assert Settings.model_validate({"stores": stores}).default_store == "main"


def test_a_store_that_says_so_is_the_default() -> None:
    stores = [store("s3", **S3), store("filesystem", default=True)]
    assert Settings.model_validate({"stores": stores}).default_store == "local"


def test_the_type_brings_its_own_keys(tmp_path: Path) -> None:
    settings = of(
        '[[stores]]\ntype = "http"\ntimeout = "3s"\n[[stores]]\ntype = "filesystem"', tmp_path
    )
    first, second = settings.stores
    assert isinstance(first, HttpStore)
    assert first.timeout == 3
    assert isinstance(second, FilesystemStore)


async def test_without_digests_an_image_has_none_and_is_active_all_the_same(tmp_path: Path) -> None:
    memory = FaultyStore(MemoryStore())
    async with running(memory, tmp_path, uploads={"digests": []}) as gate:
        image = await gate.show(await gate.active(b"abc"))
    assert image["status"] == "active"
    assert (image["checksum"], image["os_hash_algo"], image["os_hash_value"]) == (None, None, None)


# files that cannot be read


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere.toml"):
        load(tmp_path / "nowhere.toml", {})


@pytest.mark.parametrize("content", [b"[server", b"port = ", b"\xff\xfe", b"[server]\n[server]\n"])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"cannot read .*tidegate.toml") as refused:
        load(path, {})
    assert "\n" not in str(refused.value)


# secrets


@pytest.mark.parametrize(
    "wrong",
    [
        "bukket = 1",
        "attempts = 0",
        'bucket = "ab"',
        'addressing = "sideways"',
        "access_key = 5",
        'timeout = "soon"',
        f'secret_key = ["{SECRET}"]',
        f'secret = "{SECRET}"',
    ],
)
def test_no_error_shows_a_secret(tmp_path: Path, wrong: str) -> None:
    given = {"id": '"a"', "bucket": '"images"', "secret_key": f'"{SECRET}"'}
    given.pop(wrong.split(" ")[0], None)
    lines = [f"{name} = {value}" for name, value in given.items()]
    said = why("\n".join(['[[stores]]\ntype = "s3"', *lines, wrong]), tmp_path)
    assert SECRET not in said


def test_a_secret_is_shown_to_those_alone_who_ask_for_it() -> None:
    keystone = {"password": SECRET, "application_credential_secret": SECRET}
    settings = Settings.model_validate(
        {"stores": [store("s3", **S3, secret_key=SECRET)], "auth": {"keystone": keystone}}
    )
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()
    assert SECRET not in str(settings.model_dump())
    assert json.loads(dump(settings))["stores"][0]["secret_key"] == SECRET


@pytest.mark.parametrize("sample", ["tidegate.toml", "s3.toml", "cluster.toml"])
def test_what_a_worker_is_told_is_what_the_supervisor_read(sample: str) -> None:
    settings = load(CONFIG / sample, {})
    assert Settings.model_validate_json(dump(settings)) == settings


# where images may be exported to


@pytest.mark.parametrize("entry", ["local/exports", "local/a.b-c_d"])
def test_a_folder_of_a_store_may_be_exported_to(tmp_path: Path, entry: str) -> None:
    assert of(f"[export]\nstores = ['{entry}']", tmp_path).exports.stores == (entry,)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("local", "folder of a store"),
        ("local/", "folder of a store"),
        ("local/a/b", "folder of a store"),
        ("local/..", "folder of a store"),
        ("local/.unfinished", "folder of a store"),
        ("local/" + "x" * 65, "folder of a store"),
        ("local/00000000-0000-4000-8000-000000000000", "image's data"),
        ("other/exports", "'other' is no store that takes data"),
        ("http/exports", "'http' is no store that takes data"),
    ],
    ids=["no folder", "empty", "two", "dots", "hidden", "long", "image id", "unknown", "reads"],
)
def test_a_folder_that_cannot_be_exported_to(tmp_path: Path, entry: str, words: str) -> None:
    stores = "[[stores]]\ntype = 'filesystem'\nid = 'local'\n[[stores]]\ntype = 'http'"
    said = why(f"[export]\nstores = ['{entry}']\n{stores}", tmp_path)
    assert "export" in said
    assert words in said


@pytest.mark.parametrize(
    "entry",
    ["https://h/", "http://h.example:8080/", "https://h/images/", "https://H:65535/A/b.c/",
     "http://[::1]:1/", "http://10.0.0.1:9999/x~y/"],
)  # fmt: skip
def test_a_prefix_that_urls_of_exports_may_have(tmp_path: Path, entry: str) -> None:
    (taken,) = of(f"[export]\nurls = ['{entry}']", tmp_path).exports.urls
    assert parse_url(taken).path.endswith("/")


@pytest.mark.parametrize(
    "entry",
    ["", "h/", "https://h", "https://h/a", "ftp://h/", "file:///a/", "https://u@h/", "https://h/../",
     "https://h/./a/", "https://h//", "https://h/a?/", "https://h/#/", "https://h/%2e/",
     "https://h:0/", "https://h:65536/", "https://h:99999/", "https://h:/", "https://h /"],
)  # fmt: skip
def test_a_prefix_that_urls_of_exports_cannot_have(tmp_path: Path, entry: str) -> None:
    said = why(f"[export]\nurls = ['{entry}']", tmp_path)
    assert said.startswith("export.urls: ")


def test_exports_may_be_allowed_by_the_environment(tmp_path: Path) -> None:
    environ = {"TIDEGATE_EXPORT__STORES": "local/a,local/b", "TIDEGATE_EXPORT__URLS": "https://h/"}
    found = of("", tmp_path, **environ).exports
    assert (found.stores, found.urls) == (("local/a", "local/b"), ("https://h/",))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ('[auth.keystone]\npassword = ""\nusername = "u"', []),
        ('[auth.keystone]\npassword = "x"', ["auth.keystone.password"]),
        (
            '[auth.keystone]\napplication_credential_secret = "x"',
            ["auth.keystone.application_credential_secret"],
        ),
        ('[[stores]]\nsecret_key_file = "x"', []),
        ('[[stores]]\nsecret_key = "x"\n[[stores]]\nsecret_key = "y"', ["stores.secret_key"]),
        ('[catalog]\nurl = "postgresql://u@host/db"', []),
        ('[catalog]\nurl = "postgresql://u:pw@host/db"', ["catalog.url"]),
    ],
)
def test_sec_64_which_secrets_a_configuration_holds(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    assert secrets_of(path) == names
