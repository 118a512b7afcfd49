"""Mending a database whose node is stopped: what is sound is written into a new one.

- `repair` has the steps: the copy, the new database, and the exchange of the two.
- `pages` reads the rows of blocks from the file, `tables` reads all else, as far as it can be read.
- `proof` decides which blocks are sound, and `base` what is left of pruned messages.
- `rebuild` writes the new database, and tells what goes.
"""
