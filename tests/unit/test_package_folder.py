"""Fanbus tells its own code from the application's, in whatever room of the package it is."""

from __future__ import annotations

from pathlib import Path

import fanbus
import fanbus.server.supervisor
from fanbus.runtime import blocked_loop, package
from fanbus.server.reload.watch import directories_of_modules

PACKAGE = Path(fanbus.__file__).parent


def test_package_folder_is_that_of_the_package() -> None:
    assert package.FOLDER == PACKAGE


def test_reload_watches_no_folder_of_fanbus() -> None:
    """Also where the package is not installed, as here."""
    watched = directories_of_modules()
    assert Path(__file__).resolve().parent in watched
    assert [one for one in watched if one == PACKAGE or PACKAGE in one.parents] == []


def test_lines_of_all_rooms_are_not_reported_as_blocking() -> None:
    file = fanbus.server.supervisor.__file__
    assert file.startswith(blocked_loop._LIBRARIES)
