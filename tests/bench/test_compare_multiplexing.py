"""The comparison's rows of HTTP/2: what h2load prints becomes figures."""

from __future__ import annotations

import pytest
from benches.compare.multiplexing import MULTIPLEXING, read
from benches.compare.serving import ServerError
from benches.compare.systems import BY_NAME, NEEDED

SAID = """starting benchmark...
TLS Protocol: TLSv1.3
Application protocol: h2

finished in 1.01s, 16504.20 req/s, 1.11MB/s
requests: 16570 total, 16670 started, 16570 done, 16560 succeeded, 7 failed, 2 errored, 1 timeout
status codes: 16560 2xx, 0 3xx, 0 4xx, 7 5xx
                     min         max         mean         sd        +/- sd
time for request:      512us     18.21ms      6.05ms      1.22ms    80.55%
time for connect:     1.20ms      1.20ms      1.20ms         0us   100.00%
"""


def test_the_figures_of_h2load_are_read_with_their_units() -> None:
    assert read(SAID) == {
        "per_second": 16504.2,
        "delivered": 16560,
        "missing": 10,
        "latency_us": {"mean": 6050.0},
    }


def test_a_server_that_speaks_http_1_is_no_figure() -> None:
    with pytest.raises(ServerError, match="does not speak HTTP/2"):
        read(SAID.replace("protocol: h2", "protocol: http/1.1"))


def test_a_server_that_answers_nothing_is_no_figure() -> None:
    with pytest.raises(ServerError, match="no request was answered"):
        read(SAID.replace("16560 succeeded", "0 succeeded"))


def test_the_rows_are_of_systems_that_there_are_and_need_what_is_known() -> None:
    for row in MULTIPLEXING:
        assert row.has_tls
        assert {entry.system for entry in row.entries} <= set(BY_NAME)
        assert set(row.needs) <= set(NEEDED)
