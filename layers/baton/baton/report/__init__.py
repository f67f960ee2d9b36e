"""The report of a run: one JSON document, and one HTML page that needs nothing but itself."""
