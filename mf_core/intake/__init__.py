"""From a source to checked ratings in the warehouse."""
