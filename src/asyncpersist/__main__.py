"""`python -m asyncpersist` is the command line."""

from asyncpersist.cli import main

if __name__ == "__main__":
    main()
