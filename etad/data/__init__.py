"""Annotations, features, videos and what turns them into training samples."""
