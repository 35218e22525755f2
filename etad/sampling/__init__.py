"""Which snippets get a gradient and which proposals train the detector. Imports config and the ground of etad."""
