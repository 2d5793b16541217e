"""What superezio-overheat.service does once the daemon has failed: a process of its own."""
