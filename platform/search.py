"""The front door: python platform/search.py [SPACE] [--name N] [--set KEY=VALUE ...] [--dry-run] [--fresh]."""

import sys

from finesearch.cli import search_main

if __name__ == "__main__":
    sys.exit(search_main())
