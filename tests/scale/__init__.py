"""How time and memory of the commands grow with the size of what they read."""
