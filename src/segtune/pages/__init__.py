"""What all HTML pages of segtune share: style, colours, templates and small scripts."""
