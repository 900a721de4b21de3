"""Room acoustics: image sources, impulse responses, convolution, reverberation."""
