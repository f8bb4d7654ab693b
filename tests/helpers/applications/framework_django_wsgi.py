"""The application of the framework tests, in Django, for WSGI."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.helpers.applications import framework_django

framework_django.configure(__name__)
urlpatterns = framework_django.patterns(framework_django.stream)
site = get_wsgi_application()
app = DispatcherMiddleware(site, {"/v2": site})
