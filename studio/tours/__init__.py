"""The tour: a whole session by real clicks and keys."""
