"""From raw outputs to detections and the files that hold them. Imports data, config and the ground of etad."""
