"""Front ends: from waveforms and pictures to what a model learns from, and back to sound."""
