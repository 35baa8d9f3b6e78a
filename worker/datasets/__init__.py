"""Makes the packs of datasets: of built-in ones before a job, of users' own by a validation."""
