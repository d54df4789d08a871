"""Runs a program that calls `app.run(...)`, but on another port, and on this machine only.

    python tests/serve_on.py PORT PROGRAM

So the programs in the documentation can be tested exactly as they are printed there.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from fanbus import Fanbus


def main() -> None:
    port, program = int(sys.argv[1]), sys.argv[2]
    run = Fanbus.run

    def run_here(app: Fanbus, **options: Any) -> None:
        run(app, **{**options, "host": "127.0.0.1", "port": port})

    Fanbus.run = run_here  # type: ignore[method-assign, assignment]
    sys.argv = [program]
    sys.path[0] = str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
