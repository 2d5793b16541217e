"""What people see: results read into types, and drawn."""
