"""From an approved model to the lists that readers see."""
