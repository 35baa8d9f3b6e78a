"""The worker: a Celery app that claims jobs, supervises one trainer process a job, and reports to the database.

Never imports torch: what computes lives in the trainer, a process of its own.
"""
