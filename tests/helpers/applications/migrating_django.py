"""An application with django-prometheus: its middlewares first and last, its database backend, its page of metrics."""

from __future__ import annotations

import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from django_prometheus.exports import ExportToDjangoView

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="x",
    INSTALLED_APPS=["django_prometheus"],
    DATABASES={"default": {"ENGINE": "django_prometheus.db.backends.sqlite3", "NAME": ":memory:"}},
    PROMETHEUS_EXPORT_MIGRATIONS=False,
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
)


def slow(request):
    time.sleep(0.3)
    return HttpResponse("ok")


def boom(request):
    raise LookupError("boom")


def query(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok")


urlpatterns = [
    path("", lambda request: HttpResponse("ok"), name="root"),
    path("items/<int:number>", lambda request, number: HttpResponse(str(number)), name="item"),
    path("slow", slow, name="slow"),
    path("boom", boom, name="boom"),
    path("query", query, name="query"),
    path("unavailable", lambda request: HttpResponse(status=503), name="unavailable"),
]
site = get_wsgi_application()


def app(environ, start_response):
    if environ["PATH_INFO"] != "/metrics":
        return site(environ, start_response)
    page = ExportToDjangoView(None)  # past the middlewares, which would count each scrape
    start_response("200 OK", [("Content-Type", page["Content-Type"]), ("Content-Length", str(len(page.content)))])
    return [page.content]
