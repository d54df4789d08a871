"""What the server writes on stderr about handlers that raise."""

from __future__ import annotations

import pytest
from websockets.exceptions import InvalidStatus

from conftest import StartServer
from people import join


def test_a_path_that_a_client_chose_cannot_forge_a_line_of_the_log(server: StartServer) -> None:
    one = server("rooms")
    with pytest.raises(InvalidStatus), join(one, "/rooms/hall%0A%1B[31mFORGED%0A"):
        pass
    one.wait_for_log("ERROR WebSocket /rooms/hall\\n\\x1b[31mFORGED\\n")
    assert not any(line.startswith("FORGED") for line in one.log().splitlines())
    assert "\x1b" not in one.log()
