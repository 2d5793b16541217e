"""What stays beside a command that was run on a lease: it follows the lease's notices.

The command itself is not supervised: it is what whoever started it sees, with its own signals,
terminal and exit code, and it holds its lease alone. A minder is a process of its own beside it,
no parent and no child, which the command can do without at any time.
"""
