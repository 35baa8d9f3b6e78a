"""The HTTP face of a yard: routes, schemas, auth and predictions. Imports torch only in the serving threads."""
