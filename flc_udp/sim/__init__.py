"""A heap turns it: the same Node, Replica and SQLite log under virtual time, with one seed."""
