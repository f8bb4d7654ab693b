"""Django at the root, and Flask mounted at ``/flask``."""

from __future__ import annotations

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.helpers.applications.framework_django_wsgi import app as django_app
from tests.helpers.applications.framework_flask import app as flask_app

app = DispatcherMiddleware(django_app, {"/flask": flask_app})
