"""``python -m batteries``: the command."""

import sys

from batteries_entry import main

if __name__ == "__main__":
    sys.exit(main())
