"""The detector network: encoders, cascade detector, checkpoints."""
