"""What is talked about: ids, dots, spans, clocks, addresses and messages. Values only."""
