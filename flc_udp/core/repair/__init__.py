"""What is missing: digests find it, pulls fetch it, and a base replaces what nobody keeps."""
