"""Reports for people: a page of sections, how it is drawn as one HTML file or written in Markdown, and what a check
puts on it.
"""
