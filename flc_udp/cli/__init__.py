"""The commands that people type. Their small modules are imported only when a command runs."""
