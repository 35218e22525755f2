"""The report of a results folder: one HTML page, or Markdown. Imports published and below."""
