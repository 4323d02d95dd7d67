"""The engine of the book: it runs the pages, draws their figures and builds the site."""
