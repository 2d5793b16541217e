"""What superezioctl doctor looks at, a subject a module.

Each check reads files below a root, or is given what was learned before, so that all of them work
without a daemon, systemd, root or GPUs, and against a tree made for a test.
"""
