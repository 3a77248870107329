"""An export at work: photos in, verdicts, names, landmarks or embeddings out, by onnxruntime alone."""
