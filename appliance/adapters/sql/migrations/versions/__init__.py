"""One module per revision; a revision that left the house is never edited."""
