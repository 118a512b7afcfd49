"""New messages at once: the tree of links, their windows, and receipts."""
