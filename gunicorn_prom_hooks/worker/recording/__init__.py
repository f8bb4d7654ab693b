"""Recording of requests in the shared memory of a worker."""
