"""The database: connections, tables, their revisions, and paged lists."""
