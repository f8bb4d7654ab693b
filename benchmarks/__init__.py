"""Measurements of what the hooks cost, beside bare gunicorn and other exporters: ``make bench``."""
