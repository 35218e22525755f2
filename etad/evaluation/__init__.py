"""Scoring detections: average precision, average recall, kinds of false positives. Imports detections and below."""
