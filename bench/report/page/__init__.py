"""The report of a results folder: one HTML page, or Markdown. Reads records only."""
