"""What is decided. Pure machines: no clock, socket, disk, key or log; methods in, values out."""
