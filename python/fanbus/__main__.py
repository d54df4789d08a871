"""`python -m fanbus` is the command `fanbus`."""

import sys

from fanbus.cli.main import main

sys.exit(main())
