"""Two projects, each with a PostgreSQL of its own, and NATS between them."""
