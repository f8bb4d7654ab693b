"""The command line: ``init``, ``check`` and ``top``. No part of the server imports it."""
