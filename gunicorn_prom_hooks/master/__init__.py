"""The master process: its workers and their slots, worker exits, the snapshot for a scrape, and the exporter."""
