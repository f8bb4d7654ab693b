"""Metrics of the application's own, from the files that prometheus_client's multiprocess mode writes."""
