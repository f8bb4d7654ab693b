"""ASGI applications: recording around the application."""
