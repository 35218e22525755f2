"""Annotation files of other tools and data sets, read and written; a module a format. Imports errors."""
