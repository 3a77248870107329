"""The layouts in which data sets of identities are published: folders, RecordIO, TSV."""
