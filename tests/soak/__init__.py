"""The soak: faults of a plan made from a seed, under load, beside the same faults for gunicorn without this package."""
