"""What a command measures or predicts, cell by cell, each in a process of its own."""
