"""Families of networks, one file each: its name is the ``type`` of a ``conf/model`` node."""
