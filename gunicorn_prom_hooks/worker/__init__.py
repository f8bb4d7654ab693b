"""What runs in the workers: recording what happens to each request, at next to no cost."""
