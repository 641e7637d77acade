"""The command line: verbs, flags and their help."""
