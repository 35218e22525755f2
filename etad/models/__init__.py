"""The network: encoders, cascade detector, checkpoints. Imports data, config and the ground of etad."""
