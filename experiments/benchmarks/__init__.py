"""How fast the simulator is, and what it is fast against."""
