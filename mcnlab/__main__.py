"""`python -m mcnlab`."""

import sys

from mcnlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
