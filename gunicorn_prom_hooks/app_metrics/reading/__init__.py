"""The application's metrics as the master reads and adds them up."""
