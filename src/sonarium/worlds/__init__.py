"""Where sound comes from: tones rendered on demand, digits as pictures, files read from disk."""
