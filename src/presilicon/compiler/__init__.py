"""From operators to programs of the template's instruction set."""
