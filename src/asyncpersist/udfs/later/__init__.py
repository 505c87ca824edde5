"""Functions that answer later: calls that no epoch waits for, and what comes of them."""
