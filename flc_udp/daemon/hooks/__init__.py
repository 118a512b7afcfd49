"""Shell commands that a node runs on news."""
