"""`scrape_executor`: the text of web pages."""
