"""The project that publishes orders."""
