"""What is kept: the log in SQLite, and the directory it lives in.

- `log` is the writer, `reader` the reader; `read_replay` is its one long read.
- `writer_memory` is what the writer remembers and how a batch changes the tables. `arrivals` notes
  when messages came, `once` what clients numbered.
- `retention` deletes what is old. `base` is what stays of it, told to others and taken from them.
- `schema` has the tables, and `queries` are reads and transactions.
- `connections` opens the file, also to read one moment beside a running node, as `backup` and
  `fsck/` do. `repair/` mends the file of a node that is down.
- `sums` are those of rows that no block tells of, and `mending` sets such rows right.
- `wal` finds commits in a changed WAL that SQLite would pass over.
- `directory` is the data directory: its lock, its files and who may read them.
"""
