"""Losses of logits (B, C, H, W) against masks (B, H, W)."""
