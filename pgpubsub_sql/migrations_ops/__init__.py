"""Migration operations, and the autodetector that writes them."""
