"""What commands print: tables, Markdown, JSON, CSV. Imports sweep and below."""
