"""Metric names and the shape of a log line, each declared here once."""

import json
import logging
import os
import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import stamina.instrumentation
import structlog
from prometheus_client import Counter, Gauge, Histogram, values

if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    _OWN = os.getpid()
    # the library would ask for it at every count, in case of a fork; no worker forks
    values.ValueClass = values.MultiProcessValue(lambda: _OWN)

REQUESTS = Counter("tidegate_requests_total", "HTTP requests", ["method", "route", "code"])
REQUEST_SECONDS = Histogram(
    "tidegate_request_seconds", "Time to answer", ["route"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600),
)  # fmt: skip
UPLOADS = Counter("tidegate_uploads_total", "Uploads by outcome", ["outcome"])
UPLOADS_STARTED = Counter("tidegate_uploads_started_total", "Uploads begun")
UPLOADS_RUNNING = Gauge(
    "tidegate_uploads_running", "Uploads in flight", multiprocess_mode="livesum"
)
UPLOADS_WAITING = Gauge(
    "tidegate_uploads_waiting", "Uploads waiting for a buffer", multiprocess_mode="livesum"
)
TASKS = Counter("tidegate_tasks_total", "Tasks by outcome", ["type", "outcome"])
TASKS_RUNNING = Gauge("tidegate_tasks_running", "Tasks being done", multiprocess_mode="livesum")
BYTES_IN = Counter("tidegate_received_bytes_total", "Image bytes received")
BYTES_OUT = Counter("tidegate_sent_bytes_total", "Image bytes sent to clients")
BUFFER_BYTES = Gauge("tidegate_buffer_bytes", "Transfer memory in use", multiprocess_mode="livesum")
STORE_CALLS = Counter(
    "tidegate_store_calls_total", "Calls to a store", ["store", "call", "outcome"]
)
SCRUBBED = Counter("tidegate_scrubbed_total", "Stored copies read again", ["verdict"])
SCRUBBED_BYTES = Counter("tidegate_scrubbed_bytes_total", "Bytes read again from the stores")
REMOVALS_WAITING = Gauge(
    "tidegate_removals_waiting", "Objects that are still to go from a store", ["store"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
REMOVAL_FAILURES = Counter(
    "tidegate_removal_failures_total", "Removals that a store refused", ["store"]
)
CACHE_READS = Counter("tidegate_cache_reads_total", "Downloads that asked the cache", ["outcome"])
CACHE_READ_BYTES = Counter("tidegate_cache_read_bytes_total", "… and their bytes", ["outcome"])
CACHE_FILLS = Counter("tidegate_cache_fills_total", "Copies begun for the cache", ["outcome"])
CACHE_EVICTED = Counter("tidegate_cache_evicted_total", "Cached copies that made room for others")
CACHE_DAMAGED = Counter("tidegate_cache_damaged_total", "Cached copies that were found damaged")
CACHE_BYTES = Gauge(
    "tidegate_cache_bytes", "Bytes of the cached copies", multiprocess_mode="mostrecent"
)
JANITOR = Counter("tidegate_janitor_total", "What the janitor mended", ["what"])

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _Output:
    """Where lines go. One that cannot be written is lost, and nothing else with it."""

    def msg(self, line: str | bytes) -> None:
        text = line if isinstance(line, bytes) else line.encode("utf-8", "replace")
        with suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), redacted(text) + b"\n")

    debug = info = warning = error = exception = critical = msg


_SIGN = re.compile(rb"gAAAA|tg_|A[KS]IA|X-Amz-|://|-[Tt]oken|uthorization|ookie")
"""What a secret has about it: to look for these alone costs a request three microseconds."""

_SECRET = re.compile(
    rb"""
    gAAAA[\w=-]{20,}                                   # Keystone's tokens
    | tg_[\w-]{20,}                                    # ours
    | (?:AKIA|ASIA)[0-9A-Z]{12,}
    | (?<=X-Amz-Signature=)[^&"\s]+
    | (?<=X-Amz-Credential=)[^&"\s]+
    | (?<=X-Amz-Security-Token=)[^&"\s]+
    | (?<=://)[^/@\s"]*:[^/@\s"]*(?=@)                 # user and password of a URL
    | (?i:(?:x-(?:auth|service|subject|storage)-token|authorization|cookie)["'\\]*\s*[:=])[^,}\r\n]*
    """,
    re.VERBOSE,
)


def redacted(line: bytes) -> bytes:
    """Without what looks like a secret: no entry is meant to hold one, and this is for the one
    that does."""
    return _SECRET.sub(b"***", line) if _SIGN.search(line) else line


def _escaped(text: str, but: str = "") -> str:
    """Without characters that would tell a terminal something, or change what is seen."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in but else one.encode("unicode_escape").decode()
        for one in text
    )


def _for_terminals(
    logger: object, name: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in fields.items():
        if key == "exception":
            fields[key] = _escaped(value, but="\n")
        elif not isinstance(value, int | float | None):
            fields[key] = _escaped(str(value))
    return fields


def _as_json(logger: object, name: str, fields: MutableMapping[str, Any]) -> bytes:
    """The whole line in one step, since there is one a request."""
    fields["level"] = name
    fields["timestamp"] = datetime.now(UTC)
    if "exc_info" in fields:
        fields = structlog.processors.format_exc_info(logger, name, fields)
    try:
        return orjson.dumps(fields, default=str)
    except orjson.JSONEncodeError:  # a lone surrogate, from a header
        return json.dumps(fields, default=str).encode()


def configure_logging(level: str = "INFO") -> None:
    """JSON lines on standard error; on a terminal, words for people."""
    stamina.instrumentation.set_on_retry_hooks([])  # a call that failed for good has its own line
    processors: list[Any] = [_as_json]
    if sys.stderr.isatty():
        processors = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _for_terminals,
            structlog.dev.ConsoleRenderer(),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=lambda *_: _Output(),
        cache_logger_on_first_use=True,
    )
