"""What `journalctl -x` explains: each line of the daemon that an administrator may ask about."""
