"""Where a step keeps state, frames and gradients: device or host. Imports nothing else of etad."""
