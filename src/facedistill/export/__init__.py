"""A network leaves the house: model files proven in their own runtimes, a contract, a card."""
