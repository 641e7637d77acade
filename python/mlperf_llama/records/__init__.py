"""The run folder: one typed record per file, read and written in one place; seal, events, hashes."""
