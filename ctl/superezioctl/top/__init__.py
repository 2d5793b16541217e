"""The live screen of superezioctl: what is known, what is selected, how it is drawn."""
