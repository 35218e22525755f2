"""From records to what people read: on the terminal, as a page, as a picture. Imports everything but the commands."""
