"""The only place where parts are put together, opened and closed."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import assert_never

from aiohttp import web

from tidegate.api import keys
from tidegate.api.middleware import hosts_of
from tidegate.api.server import HttpServer, make_application
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import StoreError, TidegateError
from tidegate.domain.policy import Policy
from tidegate.domain.status import WHEN_BROKEN
from tidegate.identity.base import Anyone, Identity
from tidegate.identity.failures import FailedTokens
from tidegate.identity.keystone import Keystone
from tidegate.identity.limits import KeystoneLimits
from tidegate.identity.policy_file import Judged, PolicyFile, read_protections
from tidegate.identity.tokens import Tokens
from tidegate.jobs.cache import Filler, Upkeep
from tidegate.jobs.exports import Exports
from tidegate.jobs.orphans import LOOK_AT_MOST, Orphans
from tidegate.jobs.purger import Purger
from tidegate.jobs.reaper import Reaper
from tidegate.jobs.runner import Job, Runner
from tidegate.jobs.scrub import Scrub, Verify
from tidegate.jobs.scrubber import Scrubber
from tidegate.jobs.watcher import Watcher
from tidegate.jobs.worker import Purge, Worker
from tidegate.services.activation import Activation
from tidegate.services.attempts import Attempts
from tidegate.services.cache import Cache
from tidegate.services.checking import Checking
from tidegate.services.cloning import Cloning
from tidegate.services.converting import Converting
from tidegate.services.deleting import Deleting
from tidegate.services.downloads import Downloads
from tidegate.services.elsewhere import Elsewhere
from tidegate.services.export_objects import ExportObjects
from tidegate.services.exporting import Exporting
from tidegate.services.filling import Filling
from tidegate.services.images import Images
from tidegate.services.import_requests import ImportRequests
from tidegate.services.importing import Importing
from tidegate.services.imports import Imports
from tidegate.services.locations import Locations
from tidegate.services.members import Members
from tidegate.services.metadefs import Metadefinitions
from tidegate.services.quotas import ProjectQuotas
from tidegate.services.reaping import Reaping
from tidegate.services.registering import Registering
from tidegate.services.removals import Removals
from tidegate.services.scrubbing import Scrubbing
from tidegate.services.sources import Sources
from tidegate.services.staging import Staging
from tidegate.services.stores import Stores
from tidegate.services.tasks import Tasks
from tidegate.services.uploads import Uploads
from tidegate.services.usage import ProjectUsage
from tidegate.settings import FilesystemStore as FilesystemSettings
from tidegate.settings import HttpStore as HttpSettings
from tidegate.settings import S3Store as S3Settings
from tidegate.settings import Settings, SettingsError, StoreSettings
from tidegate.stores.base import Store
from tidegate.stores.cache import CacheFolder
from tidegate.stores.fetch import Fetcher
from tidegate.stores.filesystem import FilesystemStore
from tidegate.stores.http import HttpStore
from tidegate.stores.http_put import HttpPut
from tidegate.stores.s3 import S3Store
from tidegate.telemetry import log
from tidegate.transfer import qemu
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena
from tidegate.transfer.scratch import Scratch

READY_WITHIN = 3.0
"""Seconds in which a part must answer to count as ready."""


def open_store(settings: StoreSettings, fetcher: Fetcher) -> Store:
    match settings:
        case S3Settings():
            return S3Store(settings)
        case FilesystemSettings():
            return FilesystemStore(settings)
        case HttpSettings():
            return HttpStore(settings, fetcher)
        case other:
            assert_never(other)


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[dict[str, Store]]:
    """All stores by id, ready; one for registered URLs is always among them. StoreError."""
    configured = list(settings.stores)
    if not any(isinstance(store, HttpSettings) for store in configured):
        configured.append(HttpSettings(type="http"))
    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {}
        for one in configured:
            timeout = one.timeout if isinstance(one, HttpSettings) else 30.0
            fetcher = Fetcher(settings.fetch, timeout=timeout)
            if isinstance(one, HttpSettings):
                await fetcher.open()
                stack.push_async_callback(fetcher.close)
            store = open_store(one, fetcher)
            stack.push_async_callback(store.close)
            await store.open()
            stores[one.id] = store
        yield stores


@asynccontextmanager
async def gateway(
    settings: Settings, stores: Mapping[str, Store] | None = None
) -> AsyncIterator[web.Application]:
    """A whole gateway, open: its application, to be served. ``stores`` replaces the configured
    ones (open already). CatalogDown, StoreError, SettingsError: it cannot start."""
    async with AsyncExitStack() as stack:
        jobs: list[Job] = []
        identity: Identity = Anyone()
        failed = FailedTokens(settings.auth.failed_tokens)
        if settings.auth.mode == "tokens":
            identity = tokens = Tokens(settings.auth.tokens_file, failed)
            await tokens.open()
            jobs.append(tokens)
        elif settings.auth.mode == "keystone":
            identity = keystone = Keystone(settings.auth.keystone, failed)
            await keystone.open()
            stack.push_async_callback(keystone.close)
            jobs.append(keystone)
        policy = Policy(protections=await read_protections(settings.policy))
        if settings.policy.file:
            file = PolicyFile(Path(settings.policy.file), policy)
            await file.open()
            jobs.append(file)
            identity = Judged(identity, policy)
        catalog = SqlCatalog(settings.catalog.url)
        await catalog.open()
        stack.push_async_callback(catalog.close)
        if stores is None:
            stores = await stack.enter_async_context(open_stores(settings))
        remote = next(store for store in stores.values() if isinstance(store, HttpStore))
        arena = Arena(settings.uploads.memory_budget)
        digests = DigestPool(os.cpu_count() or 1)
        stack.push_async_callback(asyncio.to_thread, digests.close)
        node = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        lease = settings.uploads.lease
        removals = Removals(catalog, stores, lease=lease)
        limits: KeystoneLimits | None = None
        if settings.quotas.source == "keystone":
            limits = KeystoneLimits(settings.auth.keystone)
            await limits.open()
            stack.push_async_callback(limits.close)
        projects = ProjectQuotas(settings.quotas, limits)
        reaping = Reaping(
            catalog,
            stores,
            removals,
            broken=WHEN_BROKEN[settings.uploads.on_broken],
            lease=lease,
            node=node,
        )
        attempts = Attempts(
            catalog,
            stores,
            removals,
            settings=settings.uploads,
            formats=settings.image_format,
            default_store=settings.default_store,
            arena=arena,
            digests=digests,
            node=node,
            projects=projects,
        )
        uploads = Uploads(
            catalog, policy, attempts, settings=settings.uploads, locations=settings.locations
        )
        app = make_application()
        app[keys.SETTINGS] = settings
        app[keys.HOSTS] = hosts_of(settings)
        app[keys.IDENTITY] = identity
        app[keys.ATTEMPTS] = attempts
        app[keys.UPLOADS] = uploads
        app[keys.ACTIVATION] = Activation(catalog, policy)
        folder: CacheFolder | None = None
        if settings.cache.enabled:
            folder = CacheFolder(settings.cache.path, settings.cache.max_size)
            await folder.open()
            stack.push_async_callback(folder.close)
        app[keys.CACHE] = cache = Cache(catalog, policy, folder)
        app[keys.DOWNLOADS] = downloads = Downloads(
            catalog,
            stores,
            policy,
            settings=settings.downloads,
            arena=arena,
            cache=cache if settings.cache.enabled else None,
        )
        app[keys.LOCATIONS] = Locations(
            stores,
            policy,
            remote=remote,
            settings=settings.locations,
            limit=settings.quotas.locations,
            max_size=settings.uploads.max_image_size,
            algorithm=settings.uploads.hash_algorithm,
        )
        app[keys.IMAGES] = Images(
            catalog,
            policy,
            app[keys.LOCATIONS],
            removals,
            quotas=settings.quotas,
            delayed=settings.deletion.delayed,
            projects=projects,
        )
        app[keys.STORES] = Stores(
            catalog,
            stores,
            policy,
            removals,
            configured=settings.stores,
            default=settings.default_store,
            uploads=settings.uploads,
        )
        app[keys.USAGE] = ProjectUsage(catalog, projects)
        app[keys.MEMBERS] = Members(catalog, policy, quotas=settings.quotas)
        app[keys.METADEFS] = Metadefinitions(catalog, policy)
        tasks = Tasks(catalog, policy, keep=settings.tasks.keep, lease=lease, node=node)
        filling = Filling(catalog, policy, app[keys.IMAGES], uploads, removals)
        converting = await _open_converting(settings, arena, digests)
        imports = Imports(
            catalog,
            policy,
            uploads,
            filling,
            tasks,
            remote=remote,
            max_size=settings.uploads.max_image_size,
            patience=settings.uploads.idle_timeout,
            converting=converting,
        )
        app[keys.CLONING] = cloning = Cloning(
            catalog,
            stores,
            policy,
            app[keys.IMAGES],
            attempts,
            filling,
            tasks,
            downloads.watch,
            patience=settings.uploads.idle_timeout,
        )
        objects = ExportObjects(
            catalog, stores, settings=settings.uploads, arena=arena, digests=digests
        )
        sender = HttpPut(timeout=settings.uploads.idle_timeout)
        await sender.open()
        stack.push_async_callback(sender.close)
        patience = settings.uploads.idle_timeout
        app[keys.EXPORTING] = exporting = Exporting(
            policy,
            tasks,
            Sources(catalog, stores, policy, downloads.watch, patience=patience),
            objects,
            sender,
            settings=settings.exports,
            algorithms=settings.uploads.digests,
            arena=arena,
            digests=digests,
        )
        app[keys.REGISTERING] = registering = Registering(
            catalog,
            policy,
            app[keys.LOCATIONS],
            tasks,
            remote=remote,
            settings=settings.locations,
            limit=settings.quotas.locations,
            max_size=settings.uploads.max_image_size,
            algorithm=settings.uploads.hash_algorithm,
            patience=settings.uploads.idle_timeout,
            arena=arena,
            digests=digests,
            projects=projects,
        )
        app[keys.TASKS] = tasks
        app[keys.IMPORTS] = imports
        app[keys.STAGING] = Staging(
            catalog, policy, attempts, settings=settings.imports, locations=settings.locations
        )
        elsewhere = Elsewhere(remote, settings.imports.regions, settings.image_format)
        app[keys.IMPORT_REQUESTS] = ImportRequests(
            catalog,
            stores,
            policy,
            tasks,
            elsewhere=elsewhere,
            remote=remote,
            settings=settings.imports,
            locations=settings.locations,
            default_store=settings.default_store,
        )
        importing = Importing(
            catalog,
            stores,
            attempts,
            elsewhere=elsewhere,
            remote=remote,
            arena=arena,
            max_properties=settings.quotas.properties,
            patience=settings.uploads.idle_timeout,
            converting=converting,
        )
        app[keys.READY] = lambda: _ready(catalog, stores[settings.default_store])
        deleting = Deleting(catalog, removals, settings=settings.deletion, lease=lease)
        reaper = Reaper(reaping, removals, lease=lease)
        jobs += [
            reaper,
            Watcher(downloads.watch),
            Scrubber(deleting, catalog, delay=settings.deletion.delay),
            Purger(deleting, catalog, after=settings.deletion.purge_after),
            Purge(tasks),
            Exports(objects),
        ]
        runner = Runner(jobs)
        runner.start()
        stack.push_async_callback(runner.close)
        if settings.cache.enabled:
            # a copy takes as long as its image is large
            caching = Runner([Filler(cache, downloads), Upkeep(cache)], deadline=None)
            caching.start()
            stack.push_async_callback(caching.close)
        checking = Checking(catalog, stores, removals, reaping)
        rare = Runner([Orphans(checking, catalog)], deadline=LOOK_AT_MOST)
        rare.start()
        stack.push_async_callback(rare.close)
        if settings.scrub.rate:
            scrubbing = Scrubbing(
                catalog,
                stores,
                removals,
                rate=settings.scrub.rate,
                uploads=settings.uploads,
                arena=arena,
                digests=digests,
                node=node,
            )
            # a look lasts as long as the slowest reading of all images
            again = Scrub(scrubbing, older_than=settings.scrub.every)
            slow = Runner([again, Verify(scrubbing)], deadline=None)
            slow.start()
            stack.push_async_callback(slow.close)
            stack.callback(scrubbing.stop)
        stack.push_async_callback(attempts.wait_for_idle)
        concurrency = settings.tasks.concurrency
        works = {
            **imports.works,
            **cloning.works,
            **exporting.works,
            **registering.works,
            **importing.works,
        }
        worker = Worker(tasks, works, concurrency=concurrency, every=reaper.every)
        stack.push_async_callback(_drain, tasks, asyncio.create_task(worker.run(), name="tasks"))
        yield app


async def _open_converting(
    settings: Settings, arena: Arena, digests: DigestPool
) -> Converting | None:
    """What converts imports, if anything does. SettingsError."""
    if not settings.imports.convert_to:
        return None
    program = qemu.find()
    scratch = Scratch(Path(settings.imports.scratch), settings.imports.scratch_size)
    try:
        await scratch.open()
    except OSError as error:
        raise SettingsError(f"import.scratch: cannot use {scratch.path}") from error
    return Converting(
        program,
        scratch,
        formats=settings.image_format,
        arena=arena,
        digests=digests,
        max_size=settings.uploads.max_image_size,
    )


async def _drain(tasks: Tasks, working: asyncio.Task[None]) -> None:
    tasks.drain()
    await working


async def run_worker(
    settings: Settings, listener: socket.socket, started: asyncio.Event, stopping: asyncio.Event
) -> None:
    """Serve until ``stopping`` is set, then drain. Raises what ``gateway`` does."""
    async with gateway(settings) as app:
        if stopping.is_set():  # listening now would open again what the supervisor has closed
            return
        server = HttpServer(app, drain_timeout=settings.server.drain_timeout)
        await server.start(listener)
        started.set()
        await stopping.wait()
        log.info("draining", seconds=settings.server.drain_timeout)
        app[keys.ATTEMPTS].drain()
        app[keys.TASKS].drain()
        await server.stop()


async def _ready(catalog: SqlCatalog, store: Store) -> dict[str, str | None]:
    async def ask(part: SqlCatalog | Store) -> str | None:
        try:
            async with asyncio.timeout(READY_WITHIN):
                await part.ping()
        except TimeoutError:
            return "it does not answer"
        except StoreError as error:
            return error.reason
        except TidegateError as error:
            return error.message
        return None

    answers = await asyncio.gather(ask(catalog), ask(store))
    return dict(zip(("catalog", f"store {store.id}"), answers, strict=True))
