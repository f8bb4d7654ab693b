"""WSGI applications in worker classes without request hooks."""
