"""Losses on logits (B, C, H, W) and masks (B, H, W)."""
