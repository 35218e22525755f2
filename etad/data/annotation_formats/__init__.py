"""Annotation files of other tools and data sets, read and written; a module a format. Imports config and the ground."""
