"""How many cores a command may ask for; a module of its own, as what needs it should start at once."""

MOST_THREADS = 1024
