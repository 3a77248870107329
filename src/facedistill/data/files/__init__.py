"""Files on disk: photographs, annotations, layouts of data sets, and the store of decoded images."""
