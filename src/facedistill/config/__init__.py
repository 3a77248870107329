"""From command-line words to a checked configuration, and what its names build."""
