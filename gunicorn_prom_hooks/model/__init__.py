"""Plain data that the rooms above hand to each other."""
