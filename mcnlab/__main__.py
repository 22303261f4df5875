"""`python -m mcnlab`."""

from mcnlab.cli import main

if __name__ == "__main__":
    main()
