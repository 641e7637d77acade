"""Where data and weights come from: sources, fallback chains, downloads."""
