"""The applications that are measured: they do next to nothing. Each is copied into the folder of its server."""
