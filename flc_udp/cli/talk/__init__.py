"""Commands that say something: nc and say."""
