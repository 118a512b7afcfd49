"""How it looks: packets, their bytes, their packing into datagrams, and the seal around them."""
