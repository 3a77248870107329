"""Faces: their sources and files, how they are loaded, and the doctor that examines a data set."""
