"""The commands that say who is let in: which key this machine sends, and which keys a yard takes."""
