"""Fine-tuning: from a checked config to a trained model and its run."""
