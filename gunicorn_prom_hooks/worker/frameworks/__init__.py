"""Route templates without any change to the application: one module per framework, named in the tuple.

A module has ``MODULE``, the name in ``sys.modules`` that tells that the application uses the framework; ``prepare``,
called once in the worker; and ``route``, from the WSGI environ after the request to the route template or None. It
never imports the framework.
"""

from . import flask

FRAMEWORKS = (flask,)
