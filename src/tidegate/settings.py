"""Every setting, typed and frozen, in one tree: defaults < TOML file < environment < command line.

Sizes are bytes and are written "16MiB"; durations are seconds and are written "30s".
"""

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGTP]i?B)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_HTTP = re.compile(r"https?://[^\s/?#@\"\\]+(/[^\s?#\"\\]*)?", re.ASCII)
_FOLDER = re.compile(r"(?=.{1,64}$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_IMAGE_ID = re.compile(r"[0-9a-fA-F-]{36}", re.ASCII)
_EXPORT_URL = re.compile(
    r"https?://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/"
    r"(?:(?!\.+/)[a-z0-9._~+@=,-]+/)*",
    re.ASCII | re.IGNORECASE,
)
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: object) -> object:
    """``"16MiB"`` → 16777216. Both MiB and MB mean 1024-based units, as in the Image API."""
    if not isinstance(text, str):
        return text
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'{text!r} is not a size; write it like "16MiB"')
    unit = (found[2] or "B")[0].upper()
    return int(float(found[1]) * 1024 ** "BKMGTP".index(unit))


def parse_rate(text: object) -> object:
    """``"50MiB"`` → bytes a second; ``""`` → 0."""
    return 0 if text == "" else parse_size(text)


def parse_limit(text: object) -> object:
    """``"10TiB"`` → bytes; ``""`` → −1, no limit."""
    return -1 if text == "" else parse_size(text)


def parse_duration(text: object) -> object:
    """``"30s"`` → 30.0 seconds."""
    if not isinstance(text, str):
        return text
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'{text!r} is not a duration; write it like "30s"')
    return float(found[1]) * _UNITS[found[2] or "s"]


def _serialize_secret(value: SecretStr, info: SerializationInfo) -> str:
    """In clear only for who asks for it by the context ``{"secrets": True}``."""
    clear = isinstance(info.context, dict) and info.context.get("secrets")
    return value.get_secret_value() if clear else str(value)


Secret = Annotated[SecretStr, PlainSerializer(_serialize_secret, when_used="json")]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Limit = Annotated[int, BeforeValidator(parse_limit), Field(ge=-1)]
Rate = Annotated[int, BeforeValidator(parse_rate), Field(ge=0)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]


ImportMethod = Literal["glance-direct", "web-download", "copy-image", "glance-download"]


class Branch(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(Branch):
    host: str = "127.0.0.1"
    port: int = Field(default=9292, ge=0, le=65535)
    workers: int = Field(default=1, ge=0)
    public_url: str = ""
    proxies: tuple[IPvAnyNetwork, ...] = ()
    drain_timeout: Duration = 30.0


class CatalogSettings(Branch):
    url: str = "sqlite:///tidegate.db"


class Keystone(Branch):
    """The gateway's own account there is a user, or an application credential."""

    url: str = "http://127.0.0.1:5000/v3"
    public_url: str = ""
    username: str = ""
    password: Secret = SecretStr("")
    password_file: Path | None = None
    user_domain_id: str = "default"
    user_domain_name: str = ""
    project_name: str = "service"
    project_domain_id: str = "default"
    project_domain_name: str = ""
    application_credential_id: str = ""
    application_credential_secret: Secret = SecretStr("")
    service_roles: tuple[str, ...] = ("service",)
    service_type: str = "image"
    cache: Duration = 60.0
    refusal_cache: Duration = 5.0
    timeout: Duration = Field(default=5.0, gt=0)
    region: str = ""
    ca_file: Path | None = None
    insecure: bool = False

    @field_validator("url", "public_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not _HTTP.fullmatch(value):
            raise ValueError("must be http:// or https://, a host, and perhaps a port and a path")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _sound(self) -> "Keystone":
        if self.username and self.application_credential_id:
            raise ValueError("username and application_credential_id: choose one")
        if self.password_file is not None and self.password.get_secret_value():
            raise ValueError("password and password_file: choose one")
        return self


class Auth(Branch):
    """``failed_tokens``: of one client address, a minute, in each worker; 0: no limit."""

    mode: Literal["none", "tokens", "keystone"] = "none"
    tokens_file: Path = Path("tokens.toml")
    failed_tokens: int = Field(default=600, ge=0)
    keystone: Keystone = Keystone()

    @model_validator(mode="after")
    def _sound(self) -> "Auth":
        account = self.keystone.username or self.keystone.application_credential_id
        if self.mode == "keystone" and not account:
            raise ValueError("keystone: username or application_credential_id is needed")
        return self


class PolicySettings(Branch):
    """``file`` "": the rules as they are built in. ``property_protections`` "": none."""

    file: str = ""
    property_protections: str = ""


class Uploads(Branch):
    memory_budget: Size = 256 * 2**20
    part_size: Size = 16 * 2**20
    part_concurrency: int = Field(default=4, ge=1)
    digests: tuple[str, ...] = ("md5", "sha512")
    lease: Duration = 60.0
    idle_timeout: Duration = 60.0
    max_waiting: int = Field(default=256, ge=1)
    on_broken: Literal["killed", "queued"] = "killed"
    check_format: bool = True
    max_image_size: Size = 2**40

    @property
    def hash_algorithm(self) -> str | None:
        """The one of ``os_hash_algo``: the strongest but MD5."""
        sizes = {name: hashlib.new(name).digest_size for name in self.digests if name != "md5"}
        return max(sizes, key=lambda name: (name == "sha512", sizes[name]), default=None)

    @model_validator(mode="after")
    def _sound(self) -> "Uploads":
        for name in self.digests:
            # a digest of no fixed size would ask for one at the end
            if name not in hashlib.algorithms_guaranteed or not hashlib.new(name).digest_size:
                raise ValueError(f"digests: {name} is no digest of hashlib's")
        if self.memory_budget < 16 * 2**20:
            raise ValueError("memory_budget must be at least 16MiB")
        if self.lease < 1:
            raise ValueError("lease must be at least 1s")
        return self


DISK_FORMATS = (
    "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop",
)  # fmt: skip
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")

FormatName = Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,32}$")]


class ImageFormat(Branch):
    disk_formats: tuple[FormatName, ...] = DISK_FORMATS
    container_formats: tuple[FormatName, ...] = CONTAINER_FORMATS
    require_match: bool = True
    encrypted: bool = True
    max_virtual_size: Limit = -1
    gpt_safety_checks_nonfatal: tuple[Literal["mbr", "gptmbr"], ...] = ()


class Tasks(Branch):
    keep: Duration = 48 * 3600.0
    concurrency: int = Field(default=4, ge=1)


class Import(Branch):
    """``regions`` are other image services, by name: the URLs under which their ``/v2`` is."""

    methods: tuple[ImportMethod, ...] = get_args(ImportMethod)
    regions: dict[str, str] = {}
    convert_to: Literal["", "raw"] = ""
    scratch: str = "scratch"
    scratch_size: Size = 20 * 2**30


class Export(Branch):
    """``stores`` are folders, each ``"<store id>/<folder>"``; ``urls`` what a URL begins with."""

    stores: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    @field_validator("stores")
    @classmethod
    def _folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            folder = entry.partition("/")[2]
            if _FOLDER.fullmatch(folder) is None:
                raise ValueError('each must be a folder of a store, like "main/exports"')
            if _IMAGE_ID.fullmatch(folder):
                raise ValueError("a folder could be where an image's data lies; name it otherwise")
        return value

    @field_validator("urls")
    @classmethod
    def _prefixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            found = _EXPORT_URL.fullmatch(entry)
            if found is None or not 0 < int(found[1] or 80) < 65536:
                raise ValueError(
                    "each must be http:// or https://, a host, perhaps a port and a path, and end "
                    'with "/"; without a user, a query or anything escaped'
                )
        return value


class Downloads(Branch):
    verify: bool = True


class Locations(Branch):
    show: bool = False
    show_direct_url: bool = False
    allow_refill: bool = False
    publish_unverified: bool = False
    hash_rate: Rate = 50 * 2**20


class Deletion(Branch):
    delayed: bool = False
    delay: Duration = 7 * 86400.0
    purge_after: Duration = 30 * 86400.0


class Fetch(Branch):
    allow: tuple[str, ...] = ()


class Scrub(Branch):
    """``rate`` is bytes a second in each worker; 0: no scrubbing on the clock."""

    rate: Rate = 0
    every: Duration = 30 * 86400.0


class Quotas(Branch):
    """Of one image, then of all images of one project. Negative, or ``bytes = ""``: no limit.
    With the ``source`` keystone projects have its unified limits."""

    source: Literal["config", "keystone"] = "config"
    properties: int = 128
    tags: int = 128
    members: int = 128
    locations: int = 10
    images: int = -1
    bytes: Limit = -1


class Cache(Branch):
    enabled: bool = False
    path: Path = Path("cache")
    max_size: Size = 20 * 2**30


class FilesystemStore(Branch):
    type: Literal["filesystem"] = "filesystem"
    id: str = Field(default="local", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str = ""
    default: bool = False
    path: Path = Path("images")


class S3Store(Branch):
    type: Literal["s3"]
    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str = ""
    default: bool = False
    endpoint: str = ""
    region: str = "us-east-1"
    bucket: str = Field(min_length=3)
    prefix: str = ""
    access_key: str = ""
    secret_key: Secret = SecretStr("")
    secret_key_file: Path | None = None
    ca_file: Path | None = None
    addressing: Literal["path", "virtual", "auto"] = "path"
    create_bucket: bool = False
    part_checksum: Literal["crc64nvme", "crc32c", "md5", "none"] = "crc64nvme"
    copy_parts: bool = True
    timeout: Duration = 60.0
    connect_timeout: Duration = 5.0
    attempts: int = Field(default=4, ge=1)


class HttpStore(Branch):
    type: Literal["http"]
    id: str = Field(default="http", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str = ""
    default: Literal[False] = False
    timeout: Duration = 30.0


StoreSettings = Annotated[FilesystemStore | S3Store | HttpStore, Field(discriminator="type")]


class Settings(Branch):
    model_config = ConfigDict(serialize_by_alias=True)

    server: Server = Server()
    catalog: CatalogSettings = CatalogSettings()
    auth: Auth = Auth()
    policy: PolicySettings = PolicySettings()
    uploads: Uploads = Uploads()
    image_format: ImageFormat = ImageFormat()
    tasks: Tasks = Tasks()
    imports: Import = Field(default=Import(), alias="import")
    exports: Export = Field(default=Export(), alias="export")
    downloads: Downloads = Downloads()
    locations: Locations = Locations()
    deletion: Deletion = Deletion()
    fetch: Fetch = Fetch()
    quotas: Quotas = Quotas()
    scrub: Scrub = Scrub()
    cache: Cache = Cache()
    stores: tuple[StoreSettings, ...] = (FilesystemStore(default=True),)

    @model_validator(mode="after")
    def _sound(self) -> "Settings":
        ids = [store.id for store in self.stores]
        twice = {name for name in ids if ids.count(name) > 1}
        if twice:
            raise ValueError(f"stores: the id {', '.join(sorted(twice))} is used twice")
        if "http" in ids and not any(store.type == "http" for store in self.stores):
            raise ValueError("stores: the id http is kept for the store of registered locations")
        if not any(store.type != "http" for store in self.stores):
            raise ValueError("stores: none of them takes data")
        if sum(store.default for store in self.stores) > 1:
            raise ValueError("stores: more than one is the default")
        for entry in self.exports.stores:
            name = entry.partition("/")[0]
            if not any(store.id == name and store.type != "http" for store in self.stores):
                raise ValueError(f"export.stores: {name!r} is no store that takes data")
        if self.quotas.source == "keystone" and self.auth.mode != "keystone":
            raise ValueError("quotas.source: keystone needs auth.mode = keystone")
        return self

    @property
    def default_store(self) -> str:
        writable = [store for store in self.stores if store.type != "http"]
        return next((store.id for store in writable if store.default), writable[0].id)


class SettingsError(Exception):
    """The configuration cannot be used; the text is one line, and names no secret."""


PREFIX = "TIDEGATE_"


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings once. ``overrides`` are the command line's, by section and key;
    ``defaults`` stand in for a file.

    Raises SettingsError: an unreadable file, an unknown key (names the nearest known one), or a
    value that cannot be used (names its key, not its value).
    """
    tree: dict[str, Any] = deepcopy(dict(defaults or {}))
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"cannot read {path}: {error}") from error
    for name, value in environ.items():
        *sections, key = name.removeprefix(PREFIX).lower().split("__")
        if name.startswith(PREFIX) and sections:
            branch: dict[str, Any] = tree
            for section in sections:
                branch = _table(branch, section, name)
            branch[key] = _items(value, name) if _is_list(sections, key) else value
    for section, values in (overrides or {}).items():
        _table(tree, section, section).update(values)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _table(tree: dict[str, Any], section: str, named: str) -> dict[str, Any]:
    branch = tree.setdefault(section, {})
    if isinstance(branch, list):
        raise SettingsError(f"{named}: {section} is a list; set it in the file")
    if not isinstance(branch, dict):
        raise SettingsError(f"{section} must be a table")
    return branch


def _items(text: str, named: str) -> Any:
    """Joined by commas, or JSON."""
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise SettingsError(f"{named}: it is no list: {error}") from error
    return [item for item in map(str.strip, text.split(",")) if item]


def _is_list(sections: Sequence[str], key: str) -> bool:
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    for section in sections:
        fields = _named(fields).get(section, {})
    return key in fields and str(fields[key].annotation).startswith("tuple")


def _named(fields: Mapping[str, FieldInfo]) -> dict[str, dict[str, FieldInfo]]:
    """The sections among them, by their names in the file, each with its keys."""
    return {
        field.alias or name: model.model_fields
        for name, field in fields.items()
        if isinstance(model := field.annotation, type) and issubclass(model, Branch)
    }


def _sections(fields: Mapping[str, FieldInfo]) -> Iterator[tuple[str, dict[str, FieldInfo]]]:
    """Each section with its keys, also those within others."""
    for name, found in _named(fields).items():
        yield name, found
        for inner, keys in _sections(found):
            yield f"{name}.{inner}", keys


def _explain(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_input=False)
    # a misspelt key is also missing under its right name
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(step) for step in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        near = _nearest(str(first["loc"][-1]))
        hint = f"; did you mean {near!r}?" if near else ""
        return f"unknown setting {where}{hint}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def secrets_of(path: Path) -> list[str]:
    """The keys in a configuration (one that ``load`` takes) whose values are secrets, or URLs with
    a password."""
    return sorted(set(_secrets_in(tomllib.loads(path.read_text(encoding="utf-8")))))


def _secrets_in(tree: object, name: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _secrets_in(value, f"{name}.{key}".lstrip("."))
    elif isinstance(tree, list):
        for value in tree:
            yield from _secrets_in(value, name)
    elif isinstance(tree, str) and (
        (tree and name.rpartition(".")[2] in _secret_keys()) or _PASSWORD.search(tree)
    ):
        yield name


def _secret_keys() -> set[str]:
    models = [keys for _, keys in _sections(Settings.model_fields)]
    models += [store.model_fields for store in (FilesystemStore, S3Store, HttpStore)]
    return {key for keys in models for key, field in keys.items() if field.annotation is SecretStr}


def _nearest(key: str) -> str | None:
    """The known key that was perhaps meant; with its section where only that was wrong."""
    sections = dict(_sections(Settings.model_fields))
    for section, fields in sections.items():
        if key in fields:
            return f"{section}.{key}"
    stores = (FilesystemStore, S3Store, HttpStore)
    known = ["stores", *sections, *(key for fields in sections.values() for key in fields)]
    known += [key for store in stores for key in store.model_fields]
    return next(iter(difflib.get_close_matches(key, known, 1, 0.5)), None)
