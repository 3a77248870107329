"""Training one run: data, teachers, fit, scores, published weights."""
