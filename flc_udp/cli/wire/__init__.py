"""Commands that speak to the wire: ping and udp."""
