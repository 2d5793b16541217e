"""The flight recorder's file: its format, and how it is read, with a daemon or without one."""
