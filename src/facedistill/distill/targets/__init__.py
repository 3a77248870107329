"""Targets, one file each: its name is the ``type`` of a term of ``conf/target``."""
