"""From a URI, a folder or a query to chunks of checked rows.

Everything that is wrong with a file is said here.
"""
