"""The forms in which sets of identities circulate: folders, RecordIO, TSV. Each is one file here."""
