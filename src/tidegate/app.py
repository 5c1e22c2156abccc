"""The only place where a gateway is put together, opened and closed."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from tidegate.api import keys
from tidegate.api.middleware import hosts_of
from tidegate.api.server import HttpServer, make_application
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import StoreError, TidegateError
from tidegate.domain.policy import Policy
from tidegate.domain.task import TaskType
from tidegate.foundation import Foundation, foundation
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
from tidegate.jobs.runner import LOOK_WITHIN, Job, Runner
from tidegate.jobs.scrub import Scrub, Verify
from tidegate.jobs.scrubber import Scrubber
from tidegate.jobs.watcher import Watcher
from tidegate.jobs.worker import Purge, Worker
from tidegate.services.activation import Activation
from tidegate.services.attempts import Attempts
from tidegate.services.cache import Cache
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
from tidegate.services.registering import Registering
from tidegate.services.sources import Sources
from tidegate.services.staging import Staging
from tidegate.services.stores import Stores
from tidegate.services.tasks import Tasks, Work
from tidegate.services.uploads import Uploads
from tidegate.services.usage import ProjectUsage
from tidegate.settings import Settings, SettingsError
from tidegate.stores.base import Store
from tidegate.stores.cache import CacheFolder
from tidegate.stores.http_put import HttpPut
from tidegate.telemetry import log
from tidegate.transfer import qemu
from tidegate.transfer.scratch import Scratch

READY_WITHIN = 3.0
"""Seconds in which a part must answer to count as ready."""


@asynccontextmanager
async def gateway(
    settings: Settings, stores: Mapping[str, Store] | None = None, *, look_at_once: bool = True
) -> AsyncIterator[web.Application]:
    """A whole gateway, open: its application, to be served. ``stores`` replaces the configured
    ones (open already). It will ``look_at_once`` for what a dead server left, or only at its times.
    CatalogDown, StoreError, SettingsError: it cannot start."""
    async with AsyncExitStack() as stack:
        identity, policy, jobs = await _open_callers(settings, stack)
        base = await stack.enter_async_context(foundation(settings, stores))
        app = make_application()
        app[keys.SETTINGS] = settings
        app[keys.HOSTS] = hosts_of(settings)
        app[keys.IDENTITY] = identity
        app[keys.READY] = lambda: _ready(base.catalog, base.stores[settings.default_store])
        projects = ProjectQuotas(settings.quotas, await _open_limits(settings, stack))
        await _add_images(app, base, policy, projects, stack)
        works, upkeep = await _add_tasks(app, base, policy, projects, stack)

        def start(*jobs: Job, deadline: float | None) -> None:
            runner = Runner(jobs, deadline=deadline, look_at_once=look_at_once)
            runner.start()
            stack.push_async_callback(runner.close)

        reaper = Reaper(base.reaping(), base.removals, lease=settings.uploads.lease)
        start(*jobs, reaper, *_deletion(base), *upkeep, Watcher(app[keys.DOWNLOADS].watch),
              deadline=LOOK_WITHIN)  # fmt: skip
        start(Orphans(base.checking(), base.catalog), deadline=LOOK_AT_MOST)
        if settings.cache.enabled:
            cache = app[keys.CACHE]
            # a copy takes as long as its image is large
            start(Filler(cache, app[keys.DOWNLOADS]), Upkeep(cache), deadline=None)
        if settings.scrub.rate:
            scrubbing = base.scrubbing(rate=settings.scrub.rate)
            # a look lasts as long as the slowest reading of all images
            again = Scrub(scrubbing, older_than=settings.scrub.every)
            start(again, Verify(scrubbing), deadline=None)
            stack.callback(scrubbing.stop)
        stack.push_async_callback(app[keys.ATTEMPTS].wait_for_idle)
        tasks, concurrency = app[keys.TASKS], settings.tasks.concurrency
        worker = Worker(
            tasks, works, concurrency=concurrency, every=reaper.every, look_at_once=look_at_once
        )
        stack.push_async_callback(_drain, tasks, asyncio.create_task(worker.run(), name="tasks"))
        yield app


async def _open_callers(
    settings: Settings, stack: AsyncExitStack
) -> tuple[Identity, Policy, list[Job]]:
    """Who calls, what they may, and the jobs that keep both up to date. SettingsError."""
    identity: Identity = Anyone()
    jobs: list[Job] = []
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
    return identity, policy, jobs


async def _open_limits(settings: Settings, stack: AsyncExitStack) -> KeystoneLimits | None:
    """The identity service's, if it keeps them."""
    if settings.quotas.source != "keystone":
        return None
    limits = KeystoneLimits(settings.auth.keystone)
    await limits.open()
    stack.push_async_callback(limits.close)
    return limits


async def _open_cache(settings: Settings, stack: AsyncExitStack) -> CacheFolder | None:
    if not settings.cache.enabled:
        return None
    folder = CacheFolder(settings.cache.path, settings.cache.max_size)
    await folder.open()
    stack.push_async_callback(folder.close)
    return folder


async def _add_images(
    app: web.Application,
    base: Foundation,
    policy: Policy,
    projects: ProjectQuotas,
    stack: AsyncExitStack,
) -> None:
    """What callers do with images at once."""
    settings, catalog, stores = base.settings, base.catalog, base.stores
    app[keys.ATTEMPTS] = attempts = Attempts(
        catalog,
        stores,
        base.removals,
        settings=settings.uploads,
        formats=settings.image_format,
        default_store=settings.default_store,
        arena=base.arena,
        digests=base.digests,
        node=base.node,
        projects=projects,
    )
    app[keys.UPLOADS] = Uploads(
        catalog, policy, attempts, settings=settings.uploads, locations=settings.locations
    )
    app[keys.STAGING] = Staging(
        catalog, policy, attempts, settings=settings.imports, locations=settings.locations
    )
    app[keys.ACTIVATION] = Activation(catalog, policy)
    folder = await _open_cache(settings, stack)
    app[keys.CACHE] = cache = Cache(catalog, policy, folder)
    app[keys.DOWNLOADS] = Downloads(
        catalog,
        stores,
        policy,
        settings=settings.downloads,
        arena=base.arena,
        cache=cache if folder is not None else None,
    )
    app[keys.LOCATIONS] = locations = Locations(
        stores,
        policy,
        remote=base.remote,
        settings=settings.locations,
        limit=settings.quotas.locations,
        max_size=settings.uploads.max_image_size,
        algorithm=settings.uploads.hash_algorithm,
    )
    app[keys.IMAGES] = Images(
        catalog,
        policy,
        locations,
        base.removals,
        quotas=settings.quotas,
        delayed=settings.deletion.delayed,
        projects=projects,
    )
    app[keys.STORES] = Stores(
        catalog,
        stores,
        policy,
        base.removals,
        configured=settings.stores,
        default=settings.default_store,
        uploads=settings.uploads,
    )
    app[keys.USAGE] = ProjectUsage(catalog, projects)
    app[keys.MEMBERS] = Members(catalog, policy, quotas=settings.quotas)
    app[keys.METADEFS] = Metadefinitions(catalog, policy)


async def _add_tasks(
    app: web.Application,
    base: Foundation,
    policy: Policy,
    projects: ProjectQuotas,
    stack: AsyncExitStack,
) -> tuple[Mapping[TaskType, Work], list[Job]]:
    """What is done for callers later: how each type of task is, and the jobs that tidy up after
    them. SettingsError."""
    settings, catalog, stores = base.settings, base.catalog, base.stores
    patience, max_size = settings.uploads.idle_timeout, settings.uploads.max_image_size
    images, attempts, watch = app[keys.IMAGES], app[keys.ATTEMPTS], app[keys.DOWNLOADS].watch
    app[keys.TASKS] = tasks = Tasks(
        catalog, policy, keep=settings.tasks.keep, lease=settings.uploads.lease, node=base.node
    )
    filling = Filling(catalog, policy, images, app[keys.UPLOADS], base.removals)
    converting = await _open_converting(base)
    app[keys.IMPORTS] = imports = Imports(
        catalog,
        policy,
        app[keys.UPLOADS],
        filling,
        tasks,
        remote=base.remote,
        max_size=max_size,
        patience=patience,
        converting=converting,
    )
    app[keys.CLONING] = cloning = Cloning(
        catalog, stores, policy, images, attempts, filling, tasks, watch, patience=patience
    )
    objects = ExportObjects(
        catalog, stores, settings=settings.uploads, arena=base.arena, digests=base.digests
    )
    sender = HttpPut(timeout=patience)
    await sender.open()
    stack.push_async_callback(sender.close)
    app[keys.EXPORTING] = exporting = Exporting(
        policy,
        tasks,
        Sources(catalog, stores, policy, watch, patience=patience),
        objects,
        sender,
        settings=settings.exports,
        algorithms=settings.uploads.digests,
        arena=base.arena,
        digests=base.digests,
    )
    app[keys.REGISTERING] = registering = Registering(
        catalog,
        policy,
        app[keys.LOCATIONS],
        tasks,
        remote=base.remote,
        settings=settings.locations,
        limit=settings.quotas.locations,
        max_size=max_size,
        algorithm=settings.uploads.hash_algorithm,
        patience=patience,
        arena=base.arena,
        digests=base.digests,
        projects=projects,
    )
    elsewhere = Elsewhere(base.remote, settings.imports.regions, settings.image_format)
    app[keys.IMPORT_REQUESTS] = ImportRequests(
        catalog,
        stores,
        policy,
        tasks,
        elsewhere=elsewhere,
        remote=base.remote,
        settings=settings.imports,
        locations=settings.locations,
        default_store=settings.default_store,
    )
    importing = Importing(
        catalog,
        stores,
        attempts,
        elsewhere=elsewhere,
        remote=base.remote,
        arena=base.arena,
        max_properties=settings.quotas.properties,
        patience=patience,
        converting=converting,
    )
    done_by = (imports, cloning, exporting, registering, importing)
    works = {kind: work for one in done_by for kind, work in one.works.items()}
    return works, [Purge(tasks), Exports(objects)]


def _deletion(base: Foundation) -> list[Job]:
    """What becomes of deleted images."""
    settings, lease = base.settings.deletion, base.settings.uploads.lease
    deleting = Deleting(base.catalog, base.removals, settings=settings, lease=lease)
    return [
        Scrubber(deleting, base.catalog, delay=settings.delay),
        Purger(deleting, base.catalog, after=settings.purge_after),
    ]


async def _open_converting(base: Foundation) -> Converting | None:
    """What converts imports, if anything does. SettingsError."""
    settings = base.settings
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
        arena=base.arena,
        digests=base.digests,
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
