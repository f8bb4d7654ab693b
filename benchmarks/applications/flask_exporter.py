"""The Flask application with prometheus_flask_exporter, as its documentation has it for gunicorn."""

from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

from benchmarks.applications.flask_plain import app

GunicornInternalPrometheusMetrics(app, group_by="url_rule")
