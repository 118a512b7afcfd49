"""The checks of `flc doctor`: some functions fetch facts, and pure functions judge them."""
