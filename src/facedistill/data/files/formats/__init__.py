"""Readers of the file formats of face data sets; each module describes its format and names the sources."""
