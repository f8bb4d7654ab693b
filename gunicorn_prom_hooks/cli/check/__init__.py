"""The command check: what is wrong with a config, or with a running server."""
