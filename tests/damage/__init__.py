"""What a user gets for damaged files, odd values and killed processes: the right result or one line, no traceback.

``python -m tests.damage`` is the long form of what the tests here do in seconds.
"""
