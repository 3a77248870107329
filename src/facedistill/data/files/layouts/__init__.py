"""The layouts in which data sets of identities are published: folders, lists of labels, RecordIO, TSV."""
