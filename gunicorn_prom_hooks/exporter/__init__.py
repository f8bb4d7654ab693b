"""The HTTP server of the metrics port."""
