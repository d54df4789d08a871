"""The settings that a server runs with: one frozen object, checked once, passed down.

`Settings` is the one table of options. The command line, the environment, `fanbus.toml`, the
keywords of `app.run`, `fanbus config` and docs/howto/configuration.md are all made from it.
An invalid value raises StartError with exit status 2 and a message that names the option.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fanbus.exceptions import StartError
from fanbus.options.kinds import Choice, Flag, Names, Networks, Seconds, Size, Text, Whole
from fanbus.options.option import Option, option, options_of

__all__ = ["MAX_THREADS", "MAX_WORKERS", "OPTIONS", "Settings", "usable_cores"]

# The bus has 64 members: the workers, the supervisor, and a few other programs that publish.
MAX_WORKERS = 56

# More threads would only wait for each other: the threads of a worker share the GIL.
MAX_THREADS = 1000

_DAY = 86_400.0
_MEMORY = Size(range(2**20, 2**50), "a size from 1M on")
_LOG_LEVELS = ("critical", "error", "warning", "info", "debug")

_ADDRESS = "Where it listens"
_WORK = "Processes and threads"
_RELOAD = "While developing"
_LOGS = "Logs"
_PROXY = "Behind a proxy"
_LIMITS = "Limits and times"
_TLS = "TLS"
_PROCESS = "The process and its surroundings"
_BUS = "The bus"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of one server, with all defaults filled in."""

    host: str = option(
        "127.0.0.1",
        Text("ADDRESS", 'a host: "127.0.0.1" (this machine only) or "0.0.0.0" (every interface)'),
        "address to listen on; 0.0.0.0 is every interface",
        group=_ADDRESS,
    )
    port: int = option(5000, Whole(0, 65535), "port; 0 picks a free one", group=_ADDRESS)
    uds: str | None = option(
        None,
        Text("PATH", "the path of a socket, at most 107 bytes", r"[^\0]{1,107}"),
        "listen on this Unix socket instead of a port",
        group=_ADDRESS,
    )
    fd: int | None = option(
        None,
        Whole(0, 2**20),
        "listen on this inherited file descriptor (systemd passes them from 3 on)",
        group=_ADDRESS,
    )
    backlog: int = option(
        2048,
        Whole(1, 65535),
        "length of each worker's accept queue; limited by the kernel's somaxconn",
        group=_ADDRESS,
    )
    reuse_port: bool = option(
        False, Flag(), "share the port with other servers that set SO_REUSEPORT", group=_ADDRESS
    )

    workers: int = option(
        0,
        Whole(1, MAX_WORKERS),
        "processes",
        group=_WORK,
        short="-w",
        unset="one per usable core",
        also=("WEB_CONCURRENCY",),
    )
    threads: int = option(
        40,
        Whole(1, MAX_THREADS),
        "maximum number of threads for synchronous handlers, per worker; functions after "
        "responses have as many of their own",
        group=_WORK,
    )
    loop: str = option(
        "auto",
        Choice(("auto", "asyncio", "uvloop")),
        "event loop; auto is uvloop if it is installed",
        group=_WORK,
    )

    debug: bool = option(
        False, Flag(), "one worker, and tracebacks in responses; never in public", group=_RELOAD
    )
    reload: bool = option(False, Flag(), "one worker, restarted when a file changes", group=_RELOAD)
    reload_dir: tuple[str, ...] = option(
        (),
        Names("DIR"),
        "watch this directory (repeatable)",
        group=_RELOAD,
        unset="the working directory",
    )
    reload_include: tuple[str, ...] = option(
        (),
        Names("PATTERN"),
        "watch files of this pattern (repeatable)",
        group=_RELOAD,
        unset="*.py",
    )
    reload_exclude: tuple[str, ...] = option(
        (), Names("PATTERN"), "do not watch files of this pattern (repeatable)", group=_RELOAD
    )

    log_level: str = option(
        "info",
        Choice(_LOG_LEVELS),
        f"minimum level that is logged: {', '.join(_LOG_LEVELS)}",
        group=_LOGS,
    )
    log_format: str = option(
        "auto",
        Choice(("auto", "color", "plain", "json")),
        "format of log lines; auto: colours on a terminal, plain elsewhere",
        group=_LOGS,
    )
    log_config: str | None = option(
        None,
        Text("FILE", "the name of a file that ends with .json, .toml, .yaml, .ini or .conf"),
        "configuration file for Python's logging; overrides the other logging options",
        group=_LOGS,
    )
    access_log: bool = option(False, Flag(), "log each request and WebSocket", group=_LOGS)
    access_log_format: str = option(
        '%(h)s "%(r)s" %(s)s %(b)s %(M)sms',
        Text("FORMAT"),
        "format of an access log line, with gunicorn's atoms",
        group=_LOGS,
    )
    access_log_file: str | None = option(
        None, Text("FILE"), "append the access log to this file", group=_LOGS, unset="stderr"
    )

    proxy_headers: bool = option(
        False,
        Flag(),
        "trust X-Forwarded-For and X-Forwarded-Proto from --forwarded-allow-ips",
        group=_PROXY,
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1"),
        Networks(),
        "addresses and networks of trusted proxies (repeatable); * trusts every address",
        group=_PROXY,
        also=("FORWARDED_ALLOW_IPS",),
    )
    root_path: str = option(
        "",
        Text(
            "PATH",
            "a path that begins with / and does not end with it, or nothing",
            r"(/[^?#]*[^?#/])?",
        ),
        "path prefix under which a proxy serves the application, as in /chat",
        group=_PROXY,
    )

    limit_concurrency: int | None = option(
        None,
        Whole(1, 1_000_000),
        "requests that one worker handles at a time; more get 503",
        group=_LIMITS,
        unset="no limit",
    )
    limit_max_requests: int | None = option(
        None,
        Whole(1, 10**12),
        "requests after which a worker is replaced",
        group=_LIMITS,
        unset="never",
    )
    limit_max_requests_jitter: int = option(
        0,
        Whole(0, 10**12),
        "random number of requests, up to this, added to the limit of each worker",
        group=_LIMITS,
    )
    workers_lifetime: float | None = option(
        None,
        Seconds(1, 365 * _DAY),
        "age at which a worker is replaced",
        group=_LIMITS,
        unset="never",
    )
    workers_lifetime_jitter: float = option(
        0.0,
        Seconds(0, 365 * _DAY),
        "random time, up to this, added to the lifetime of each worker",
        group=_LIMITS,
    )
    workers_max_rss: int | None = option(
        None,
        _MEMORY,
        "memory (RSS) at which a worker is replaced",
        group=_LIMITS,
        unset="never",
    )
    timeout_keep_alive: float = option(
        30.0,
        Seconds(0.1, _DAY),
        "time after which an idle connection is closed",
        group=_LIMITS,
    )
    timeout_head: float = option(
        10.0,
        Seconds(0.1, _DAY),
        "time for the head of a request to arrive; after it 408",
        group=_LIMITS,
    )
    timeout_body: float = option(
        120.0,
        Seconds(0.1, _DAY),
        "time for the body of a request to arrive, plus what --min-body-rate adds; after it 408",
        group=_LIMITS,
    )
    min_body_rate: int = option(
        4096,
        Size(range(1, 2**30 + 1), "a size from 1 to 1G"),
        "bytes per second that a body must arrive with once --timeout-body is over; below it 408",
        group=_LIMITS,
    )
    max_body_memory: int = option(
        256 * 2**20,
        _MEMORY,
        "memory for request bodies, per worker; above it they are buffered in files",
        group=_LIMITS,
    )
    max_queue_memory: int = option(
        256 * 2**20,
        _MEMORY,
        "memory for messages queued for slow WebSockets and event streams, per worker; "
        "above it the clients with the longest queues are closed with 1013",
        group=_LIMITS,
    )
    max_message_memory: int = option(
        256 * 2**20,
        _MEMORY,
        "memory for incomplete WebSocket messages, per worker; above it their clients are read "
        "from in turn",
        group=_LIMITS,
    )
    timeout_write: float = option(
        60.0,
        Seconds(0.1, _DAY),
        "time after which a client that reads nothing of its response is disconnected",
        group=_LIMITS,
    )
    tcp_keepalive: int = option(
        60,
        Whole(0, 32_767, "SECONDS"),
        "idle time before TCP keep-alive probes, six of them within the same time; 0: none",
        group=_LIMITS,
    )
    timeout_graceful_shutdown: float = option(
        10.0,
        Seconds(0, _DAY),
        "time to finish requests in flight at shutdown; then they are cancelled",
        group=_LIMITS,
    )
    timeout_worker: float = option(
        60.0,
        Seconds(0, _DAY),
        "a worker that does not respond for this long is replaced; 0: never",
        group=_LIMITS,
    )
    timeout_worker_boot: float = option(
        0.0,
        Seconds(0, _DAY),
        "time for a worker to become ready; 0: no limit",
        group=_LIMITS,
    )

    ssl_certfile: str | None = option(None, Text("FILE"), "certificate chain (PEM)", group=_TLS)
    ssl_keyfile: str | None = option(None, Text("FILE"), "its private key (PEM)", group=_TLS)
    ssl_keyfile_password: str | None = option(
        None, Text("PASSWORD"), "password of the private key", group=_TLS, secret=True
    )
    ssl_ca_certs: str | None = option(
        None,
        Text("FILE"),
        "CA certificates (PEM); clients must present a certificate signed by one of them",
        group=_TLS,
    )

    app_dir: str = option(
        ".", Text("DIR"), "directory that the application's module is imported from", group=_PROCESS
    )
    factory: bool = option(
        False, Flag(), "APP is a function that returns the application", group=_PROCESS
    )
    chdir: str | None = option(
        None,
        Text("DIR"),
        "change to this directory before the application is imported",
        group=_PROCESS,
    )
    env_file: str | None = option(
        None, Text("FILE"), "load environment variables from this file", group=_PROCESS
    )
    pid_file: str | None = option(
        None,
        Text("FILE"),
        "write the process ID to this file; it is removed at exit",
        group=_PROCESS,
    )
    user: str | None = option(
        None, Text("NAME"), "switch to this user once the sockets are bound", group=_PROCESS
    )
    group: str | None = option(
        None, Text("NAME"), "switch to this group", group=_PROCESS, unset="the user's own"
    )

    bus_name: str | None = option(
        None,
        Text(
            "NAME",
            "letters, digits, dots, dashes and underscores, at most 64, not a dot at first",
            r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}",
        ),
        "name of the bus",
        group=_BUS,
        unset="the application's name and the port, as in chat-5000",
    )
    bus_size: int | None = option(
        None,
        # A larger ring needs offsets that the log has no bits for (docs/bus.md).
        Size(tuple(2**power for power in range(16, 26)), "a power of two from 64K to 32M"),
        "ring buffer for the messages of each worker, as in 16M; a quarter of it fits one message",
        group=_BUS,
        unset="8M, or what /dev/shm has room for, from 1M on",
    )
    history_size: int | None = option(
        None,
        Size(range(128 * 2**10, 8 * 2**30 + 1), "a size from 128K to 8G"),
        "memory for the history of topics; when it is full, the oldest messages are removed",
        group=_BUS,
        unset="8M, or what /dev/shm has room for, from 1M on",
    )

    single_process: bool = False
    """Serve in this process, without a supervisor (FANBUS_SINGLE_PROCESS=1)."""

    def __post_init__(self) -> None:
        places = [name for name in ("uds", "fd") if getattr(self, name) is not None]
        if len(places) > 1:
            raise StartError(
                "uds and fd are both given: a server listens on one of them.", status=2
            )
        for name in ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs"):
            if getattr(self, name) is not None and self.ssl_certfile is None:
                raise StartError(
                    f"{name} is for TLS, which needs a certificate: set ssl_certfile too.",
                    status=2,
                )

    @classmethod
    def of(cls, values: dict[str, Any], *, single_process: bool) -> Settings:
        """Fills in the defaults that depend on the machine. `values` are checked, and keyed by
        field."""
        workers = values.get("workers") or min(usable_cores(), MAX_WORKERS)
        if single_process or values.get("debug") or values.get("reload"):
            workers = 1
        return cls(**{**values, "workers": workers, "single_process": single_process})

    @property
    def watches_files(self) -> bool:
        """Whether the server runs for development, where a changed file restarts it."""
        return self.reload or self.debug

    def anchored(self) -> Settings:
        """A copy with absolute paths for files that are opened again later, since the application
        may change the working directory.
        """
        names = ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "pid_file")
        paths = {name: getattr(self, name) for name in names}
        absolute: dict[str, Any] = {
            name: str(Path(path).absolute()) for name, path in paths.items() if path
        }
        return replace(self, **absolute)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, for the re-exec of the supervisor."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Settings:
        """The settings that `to_json` has saved. Lists become tuples, which JSON does not have."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in saved.items()
        }
        return cls(**fields)


OPTIONS: tuple[Option, ...] = options_of(Settings)


def usable_cores() -> int:
    """The number of cores that this process may run on. taskset and cpusets can make it smaller
    than the number of cores of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
