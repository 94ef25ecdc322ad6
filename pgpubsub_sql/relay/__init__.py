"""The relay: takes messages of durable channels from one PostgreSQL to others, by JetStream."""
