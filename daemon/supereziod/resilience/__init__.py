"""What the programs of this host share about the services they call: breakers, limits, a cache."""
