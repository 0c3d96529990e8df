"""Reports for people as one HTML file: a page of sections, plots, and what each kind of report puts on it."""
