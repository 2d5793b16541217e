"""Scripts by which shells complete command lines, made from the table of commands."""
