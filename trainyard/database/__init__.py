"""The database: connections, tables, their revisions, and lists in pages."""
