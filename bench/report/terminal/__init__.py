"""What commands print: tables, Markdown, JSON, CSV. Reads records only."""
