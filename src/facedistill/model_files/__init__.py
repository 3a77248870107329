"""Files that are said to hold a network: of what kind they are, and ONNX graphs, read and tried, all without torch."""
