"""The Node: it carries out what the core decided, in one fixed order, on any ground."""
