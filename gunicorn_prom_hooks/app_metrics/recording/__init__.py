"""The application's metrics as its processes write them."""
