"""The keywords that `app.run` takes, for editors and type checkers.

tests/unit/test_options.py compares them with the table of options.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TypedDict

__all__ = ["Keywords"]

_Path = str | PathLike[str]
_Several = str | Sequence[str]


class Keywords(TypedDict, total=False):
    """The options of `app.run` beside host and port. None has the effect of a missing option."""

    uds: _Path | None
    fd: int | None
    backlog: int | None
    reuse_port: bool | None
    workers: int | None
    threads: int | None
    loop: str | None
    debug: bool | None
    reload: bool | None
    reload_dir: _Several | None
    reload_include: _Several | None
    reload_exclude: _Several | None
    log_level: str | None
    log_format: str | None
    log_config: _Path | None
    access_log: bool | None
    access_log_format: str | None
    access_log_file: _Path | None
    proxy_headers: bool | None
    forwarded_allow_ips: _Several | None
    root_path: str | None
    limit_concurrency: int | None
    limit_max_requests: int | None
    limit_max_requests_jitter: int | None
    workers_lifetime: float | str | None
    workers_lifetime_jitter: float | str | None
    workers_max_rss: int | str | None
    timeout_keep_alive: float | str | None
    timeout_head: float | str | None
    timeout_body: float | str | None
    min_body_rate: int | str | None
    max_body_memory: int | str | None
    max_queue_memory: int | str | None
    max_message_memory: int | str | None
    timeout_write: float | str | None
    tcp_keepalive: int | None
    timeout_graceful_shutdown: float | str | None
    timeout_worker: float | str | None
    timeout_worker_boot: float | str | None
    ssl_certfile: _Path | None
    ssl_keyfile: _Path | None
    ssl_keyfile_password: str | None
    ssl_ca_certs: _Path | None
    chdir: _Path | None
    env_file: _Path | None
    pid_file: _Path | None
    user: str | None
    group: str | None
    bus_name: str | None
    bus_size: int | str | None
    history_size: int | str | None
