"""The directory of the application's metrics: a private one that is removed with the server, or the user's."""
