"""Annotations, features, videos and what turns them into training samples. Imports config and the ground of etad."""
