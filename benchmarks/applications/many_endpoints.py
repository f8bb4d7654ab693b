"""A WSGI application that reads the body, and knows each path but one that ends with /none."""


def app(environ, start_response):
    environ["wsgi.input"].read()
    status = "404 Not Found" if environ["PATH_INFO"].endswith("/none") else "200 OK"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
