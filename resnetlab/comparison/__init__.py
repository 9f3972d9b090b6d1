"""Results folders side by side: what differs between them, whether their effects agree, and the pooled effect."""
