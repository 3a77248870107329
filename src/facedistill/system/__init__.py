"""Files and signals: what this project asks of the operating system."""
