"""What people look at: tables, pictures, Weights & Biases."""
