"""What is kept: the log in SQLite, and the directory it lives in.

- `log` is the writer, `reader` the reader; `read_replay` is its one long read.
- `writer_memory` is what the writer remembers and how a batch changes the tables. `arrivals` notes
  when messages came, `once` what clients numbered.
- `retention` deletes what is old. `base` is what stays of it, told to others and taken from them.
- `schema` has the tables, `connections` opens the file, `queries` are its reads and transactions.
- `snapshot` reads one moment beside a running node. `backup` and `fsck/` stand on it.
- `directory` is the data directory: its lock, its files and who may read them.
"""
