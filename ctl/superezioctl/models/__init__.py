"""Model servers as systemd runs them: one file each, one unit each, and a lease each."""
