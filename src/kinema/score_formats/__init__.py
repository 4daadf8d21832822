"""Score files of other systems, read as data: nothing in them is executed."""
