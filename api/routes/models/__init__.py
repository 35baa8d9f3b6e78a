"""Routes of the models that answer: the names for them, and how other clients reach them."""
