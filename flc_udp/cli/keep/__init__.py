"""Commands that look after data and keys: backup, fsck, export, import, keys and keygen."""
