"""Run the command line: ``python -m gunicorn_prom_hooks``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
