"""What is talked about, as plain values: ids, dots, spans, clocks, addresses, blocks, messages."""
