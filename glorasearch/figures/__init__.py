"""What a run did, as figures: one reading of its records, drawn on pages, in reports and on the terminal."""
