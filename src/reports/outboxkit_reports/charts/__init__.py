"""Charts as inline SVG: no script, no style attribute, no reference to anything outside the page.

Colours come from the page's style sheet (classes `c0` … `c7` and names such as `grid`), so that light, dark
and print are one drawing. Every chart is `role="img"` with a text that says what it shows; the tables
beside it hold its numbers.
"""
