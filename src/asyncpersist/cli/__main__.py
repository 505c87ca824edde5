"""`python -m asyncpersist.cli` is the command line."""

from asyncpersist.cli.app import main

if __name__ == "__main__":
    main()
