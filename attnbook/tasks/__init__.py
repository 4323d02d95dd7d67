"""Data: generators and small real sets, each with its licence and provenance."""
