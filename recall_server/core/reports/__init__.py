"""Cards: what a memory or a classifier says about itself to people, as Markdown."""
