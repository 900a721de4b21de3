"""Audio files: opened in one place, validated against their containers."""
