"""The user's hooks and worker classes see the application that they loaded, and what they put around it is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server
from tests.integration.conftest import Serve

WSGI = APPLICATIONS / "state_wsgi.py"
ASGI = APPLICATIONS / "state_asgi.py"
TORNADO = APPLICATIONS / "state_tornado.py"
CLASSES = {
    "sync": ("gunicorn.workers.sync", "SyncWorker", WSGI),
    "gthread": ("gunicorn.workers.gthread", "ThreadWorker", WSGI),
    "gevent": ("gunicorn.workers.ggevent", "GeventWorker", WSGI),
    "gevent_pywsgi": ("gunicorn.workers.ggevent", "GeventPyWSGIWorker", WSGI),
    "tornado": ("gunicorn.workers.gtornado", "TornadoWorker", WSGI),
    "asgi": ("gunicorn.workers.gasgi", "ASGIWorker", ASGI),
    "uvicorn": ("uvicorn_worker", "UvicornWorker", ASGI),
}
HOOKS = """
def post_worker_init(worker):
    import app
    loaded = worker.asgi if hasattr(worker, "asgi") else worker.wsgi
    assert loaded is app.app, loaded
    loaded.state["hook"] = True
    if hasattr(app, "Middleware"):
        setattr(worker, "asgi" if hasattr(worker, "asgi") else "wsgi", app.Middleware(loaded))

def worker_exit(server, worker):
    loaded = worker.asgi if hasattr(worker, "asgi") else worker.wsgi
    with open("seen", "w") as out:
        out.write(repr(sorted(getattr(loaded, "app", loaded).state)))
"""
OWN_CLASS = """
from {module} import {base}

class Own({base}):
    def init_process(self):
        import app
        app.app.state["init_process"] = True
        super().init_process()

    def run(self):
        loaded = self.asgi if hasattr(self, "asgi") else self.wsgi
        getattr(loaded, "app", loaded).state["run"] = True
        super().run()

worker_class = Own
"""


def start(serve: Serve, worker: str, app: Path | str, hooks: str, *, own_class: bool = False) -> Server:
    """A server with this class of workers, or one derived from it."""
    module, base, _ = CLASSES[worker]
    chosen = OWN_CLASS.format(module=module, base=base) if own_class else f"worker_class = '{module}.{base}'\n"
    return serve(chosen + hooks, app=app)


@pytest.mark.parametrize("own_class", [False, True], ids=["", "derived"])
@pytest.mark.parametrize("worker", CLASSES)
def test_user_hooks_and_worker_class_see_the_loaded_application(serve: Serve, worker: str, own_class: bool) -> None:
    """A hook sees it, puts a middleware around it, and still sees it at the end; so does a class's own run()."""
    server = start(serve, worker, CLASSES[worker][2], HOOKS, own_class=own_class)
    expected = sorted(["hook", "middleware"] + ["init_process", "run"] * own_class)
    assert server.get("/").text == repr(expected)
    assert server.get("/").text == repr(expected)
    samples = server.settled(3)
    assert samples.one("gunicorn_requests_total", method="GET", endpoint="/", status="200") == 3
    assert samples.sum("gunicorn_exporter_errors_total") == 0
    if worker != "uvicorn":  # its worker ends by the signal, and calls no worker_exit
        server.stop()
        assert (server.folder / "seen").read_text() == repr(expected)


@pytest.mark.parametrize("wrapped", [False, True], ids=["", "WSGIContainer"])
def test_hook_sees_a_tornado_application_or_wsgi_container(serve: Serve, wrapped: bool) -> None:
    """An application of Tornado's, or a container of its around a WSGI application, is what the hook sees."""
    app: Path | str = TORNADO
    use = "worker.wsgi.state['hook'] = True"
    if wrapped:
        app = WSGI.read_text() + "from tornado.wsgi import WSGIContainer\ninner, app = app, WSGIContainer(app)\n"
        use = "assert worker.wsgi.wsgi_application is app.inner"
    hook = f"def post_worker_init(worker):\n    import app\n    assert worker.wsgi is app.app\n    {use}\n"
    server = start(serve, "tornado", app, hook)
    assert server.get("/").text == ("[]" if wrapped else "['hook', 'logged']")
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", method="GET", endpoint="/", status="200") == 2


def test_hook_sees_a_wsgi_application_in_uvicorn_and_it_is_counted(serve: Serve) -> None:
    """A WSGI application that uvicorn runs on threads is what the hook sees, and its requests are counted."""
    own = """
from uvicorn_worker import UvicornWorker

class Own(UvicornWorker):
    CONFIG_KWARGS = {"interface": "wsgi"}

worker_class = Own
"""
    server = serve(own + HOOKS, app=WSGI)
    assert server.get("/").text == repr(["hook", "middleware"])
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", method="GET", endpoint="/", status="200") == 2
    assert samples.sum("gunicorn_exporter_errors_total") == 0
