"""Commands that look at a node: log, rooms, members, status, sync, why and doctor."""
