"""Who is there: probes, suspicions, the member table, and how nodes join, leave and come back."""
