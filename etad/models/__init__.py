"""The network: encoders, cascade detector, checkpoints. Imports data, offload, config and the ground of etad."""
