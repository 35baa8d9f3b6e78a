"""What a network is worth: accuracy, reports, predictions and pictures."""
