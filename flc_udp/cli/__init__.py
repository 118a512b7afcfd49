"""What people type: one small file a family of commands, each imported only when it is run."""
