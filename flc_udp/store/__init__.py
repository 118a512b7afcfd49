"""What is kept: the log in SQLite, and the directory it lives in."""
