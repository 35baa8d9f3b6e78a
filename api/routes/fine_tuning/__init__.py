"""OpenAI's fine-tuning API, for clients that speak it."""
