"""Audio files: opened in one place, checked against what their containers say."""
