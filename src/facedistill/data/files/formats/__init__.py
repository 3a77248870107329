"""Readers of the files in which face data sets circulate; each says its format's layout and where it is documented."""
