"""The report of a study: one HTML file that needs neither a network nor this package.

`_content` makes the data, `_page` puts them into the files of `page/`.
"""
