"""The worker: a Celery app that claims jobs, supervises a trainer process for each, and reports to the database.

Never imports torch: what computes lives in the trainer, a process of its own.
"""
