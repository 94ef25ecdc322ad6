"""The project that receives orders."""
