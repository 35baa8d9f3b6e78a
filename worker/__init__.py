"""The worker: a Celery app that claims jobs, supervises a trainer process for each, and reports to the database.

It never imports torch: all computing is done by the trainer, in a process of its own.
"""
