"""What `flc doctor` looks at: some functions fetch facts, others judge them and are pure."""
