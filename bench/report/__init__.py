"""From records to tables, plots and pages. Everything here only reads records."""
