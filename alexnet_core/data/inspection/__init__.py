"""Ways to look at a pack: single images, pictures of many, what differs between two, and its images as files."""
