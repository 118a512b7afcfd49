"""What is talked about: ids, dots, spans, clocks, addresses and messages, all of them plain values."""
