"""What the commands print: lines, tables, bars and curves. Knows nothing of a yard but the fields of its answers."""
