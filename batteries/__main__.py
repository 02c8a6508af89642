"""``python -m batteries``: the command."""

import sys

from registry.entry import main

sys.exit(main())
