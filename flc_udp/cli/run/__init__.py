"""Commands that run nodes: run, demo, sim, config and completion."""
