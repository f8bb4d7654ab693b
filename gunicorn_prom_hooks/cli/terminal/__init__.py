"""The command top: the tables of the status page in a terminal."""
